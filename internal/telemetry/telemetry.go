// Package telemetry makes the logger and the registry of metrics.
//
// It owns: how logs are written and how metrics are exposed. It must not know
// what is measured: each layer's figures are read through a Collector that the
// daemon registers.
package telemetry

import (
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/strakefs/strake/internal/fsapi"
)

// NewLogger writes records of level ("debug", "info", "warn", "error") and
// above to w as "text" or "json". fsapi.Invalid for other words.
func NewLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fsapi.Errorf(fsapi.Invalid, "log level %q is not debug, info, warn or error", level)
	}
	o := &slog.HandlerOptions{Level: l}
	switch strings.ToLower(format) {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return nil, fsapi.Errorf(fsapi.Invalid, "log format %q is not text or json", format)
}

// Registry holds the metrics of one process. Safe for concurrent use.
type Registry struct{ r *prometheus.Registry }

// NewRegistry makes a registry with the Go runtime's and the process's metrics
// in it.
func NewRegistry() *Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &Registry{r}
}

// Register adds collectors. It panics on two metrics of one name, which is a
// mistake in the program.
func (r *Registry) Register(c ...prometheus.Collector) { r.r.MustRegister(c...) }

// Handler serves the metrics in Prometheus' text format.
func (r *Registry) Handler() http.Handler { return promhttp.HandlerFor(r.r, promhttp.HandlerOpts{}) }

// Sample is one figure read when metrics are asked for.
type Sample struct {
	Name   string // without the strake_ prefix
	Help   string
	Gauge  bool // else a counter
	Value  float64
	Labels map[string]string
}

// Samples is a Collector over a function that reads figures.
func Samples(read func() []Sample) prometheus.Collector { return samples{read} }

type samples struct{ read func() []Sample }

// Describe sends nothing: the collector is unchecked, its samples may vary.
func (samples) Describe(chan<- *prometheus.Desc) {}

func (s samples) Collect(ch chan<- prometheus.Metric) {
	for _, m := range s.read() {
		kind := prometheus.CounterValue
		if m.Gauge {
			kind = prometheus.GaugeValue
		}
		desc := prometheus.NewDesc("strake_"+m.Name, m.Help, nil, m.Labels)
		ch <- prometheus.MustNewConstMetric(desc, kind, m.Value)
	}
}
