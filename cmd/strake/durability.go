package main

import (
	"fmt"
	"io"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
)

type durabilityCmd struct {
	Copies      string   `arg:"" optional:"" help:"Ask about these copies, as in hot:1,warm:4+2, instead of those in use."`
	AFR         *float64 `name:"afr" help:"Probability that a drive fails within a year." placeholder:"P"`
	Latent      *float64 `help:"Bad blocks that appear in 10^12 bytes a year." placeholder:"N"`
	DomainLoss  *float64 `help:"Probability that a failure domain is lost for good within a year." placeholder:"P"`
	SiteLoss    *float64 `help:"Probability that this machine is lost with all its drives within a year." placeholder:"P"`
	BucketNines *float64 `help:"Durability of an object in a bucket, as its provider states, in nines." placeholder:"N"`
	BucketLoss  *float64 `help:"Probability that a whole bucket is lost within a year." placeholder:"P"`
	Ingest      *float64 `help:"Bytes per second that are written (default: as many as since the server was started)." placeholder:"N"`
}

func (c *durabilityCmd) Run(g *globals) error {
	d, err := client.Call[api.Durability](g.ctx, g.client(), "GET", "/v1/admin/durability", api.DurabilityReq{
		Copies: c.Copies, AFR: c.AFR, Latent: c.Latent, DomainLoss: c.DomainLoss, SiteLoss: c.SiteLoss,
		BucketNines: c.BucketNines, BucketLoss: c.BucketLoss, Ingest: c.Ingest,
	})
	if err != nil {
		return err
	}
	return g.out.value(d, func(w io.Writer) {
		if len(d.Policies) == 0 {
			fmt.Fprintln(w, "there is no data in segments yet: ask about copies, as in 'strake durability hot:2'")
		}
		for _, p := range d.Policies {
			printDurability(w, p)
		}
	})
}

// onAverage is bytes for people, of which there may be less than one.
func onAverage(bytes float64) string {
	if bytes < 1024 {
		return fmt.Sprintf("%.3g B", bytes)
	}
	return size(int64(bytes))
}

func printDurability(w io.Writer, p api.DurabilityOf) {
	what := "in use"
	if p.Supposed {
		what = "supposed"
	}
	fmt.Fprintf(w, "copies=%s: %s %s\n", p.Copies, size(p.Bytes), what)
	if p.Error != "" {
		fmt.Fprintf(w, "it cannot be computed: %s\n\n", p.Error)
		return
	}
	if p.Nines == nil {
		fmt.Fprint(w, "nothing that is counted here can lose data\n\n")
		return
	}
	fmt.Fprintf(w, "probability that anything is lost within a year: %.3g (%.1f nines); %s lost a year on average\n\n", p.Loss, *p.Nines, onAverage(p.BytesLost))
	var t [][]any
	for _, x := range p.Terms {
		t = append(t, []any{fmt.Sprintf("%.1f %%", 100*x.Share), x.Text})
	}
	rows(w, []any{"SHARE", "HOW IT IS LOST"}, t)
	t = nil
	for _, in := range p.Inputs {
		t = append(t, []any{in.Copy, in.Name, in.Value, in.Source})
	}
	rows(w, []any{"COPY", "FIGURE", "VALUE", "FROM"}, t)
	fmt.Fprintln(w)
}
