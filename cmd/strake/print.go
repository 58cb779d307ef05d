package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// printer prints a command's result as text or as JSON.
type printer struct {
	w    io.Writer
	json bool
}

// value prints v as JSON where that is asked for, else runs text.
func (p *printer) value(v any, text func(w io.Writer)) error {
	if p.json {
		e := json.NewEncoder(p.w)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	text(p.w)
	return nil
}

// done prints a sentence for people; programs get v.
func (p *printer) done(v any, format string, args ...any) error {
	return p.value(v, func(w io.Writer) { fmt.Fprintf(w, format+"\n", args...) })
}

// rows prints a table with a header.
func rows(w io.Writer, header []any, rows [][]any) {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	t.Style().Options = table.OptionsNoBordersAndSeparators
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(table.Row(header))
	for _, r := range rows {
		t.AppendRow(table.Row(r))
	}
	t.Render()
}

// size prints bytes for people.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}

// when prints a time for people.
func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// progress is a line that is rewritten in place on a terminal, and nothing
// elsewhere. Not for concurrent use.
type progress struct {
	w     io.Writer
	live  bool
	last  time.Time
	shown bool
}

func newProgress(g *globals) *progress {
	return &progress{w: os.Stderr, live: !g.JSON && term.IsTerminal(int(os.Stderr.Fd()))}
}

// show replaces the line, at most ten times a second. total 0 is unknown.
func (p *progress) show(what string, done, total int64, unit func(int64) string) {
	if !p.live || time.Since(p.last) < 100*time.Millisecond {
		return
	}
	p.last, p.shown = time.Now(), true
	if total <= 0 {
		fmt.Fprintf(p.w, "\r\033[K%s %s", what, unit(done))
		return
	}
	const width = 30
	filled := int(min(done, total) * width / total)
	bar := make([]rune, width)
	for i := range bar {
		bar[i] = '·'
		if i < filled {
			bar[i] = '━'
		}
	}
	fmt.Fprintf(p.w, "\r\033[K%s %s %3d%% %s of %s", what, string(bar), done*100/total, unit(done), unit(total))
}

// clear takes the line away.
func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r\033[K")
	}
	p.shown = false
}

// interrupted is ask without the line in the way; nil where ask is.
func (p *progress) interrupted(ask func() ([]byte, error)) func() ([]byte, error) {
	if ask == nil {
		return nil
	}
	return func() ([]byte, error) {
		p.clear()
		return ask()
	}
}

func count(n int64) string { return fmt.Sprint(n) }
