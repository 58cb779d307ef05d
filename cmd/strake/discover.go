package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/client"
	"github.com/strakefs/strake/internal/discovery"
)

type discoverCmd struct {
	Wait time.Duration `help:"How long to wait for answers." default:"2s"`
}

func (c *discoverCmd) Run(g *globals) error {
	list, err := discovery.Find(g.ctx, c.Wait)
	if err != nil {
		return err
	}
	return g.out.value(list, func(w io.Writer) {
		if len(list) == 0 {
			fmt.Fprintln(w, "no server announces itself in the local network: one does where discovery.announce is set and others reach where it listens")
			return
		}
		var t [][]any
		for _, s := range list {
			t = append(t, []any{s.Name, s.URL(), s.Version, s.TLS})
		}
		rows(w, []any{"SERVER", "ADDRESS", "VERSION", "TLS"}, t)
	})
}

// localServer is asked where no server was named or found.
const localServer = "http://127.0.0.1:7420"

// lookFor is how long a command that was told no server looks for one.
const lookFor = 1500 * time.Millisecond

// address is lookAround, once.
func (g *globals) address() string {
	if g.at == nil {
		at := g.lookAround()
		g.at = &at
	}
	return *g.at
}

// lookAround is the server to talk to: the one that was named; else the one on the
// data directory, which is ""; else, for those who have a token to show, the
// only one that announces itself, or this machine's.
func (g *globals) lookAround() string {
	if g.Server != "" || g.Token == "" {
		return g.Server
	}
	if _, err := os.Stat(client.Socket(g.Data)); err == nil {
		return ""
	}
	if os.Getenv("STRAKE_DISCOVER") == "off" {
		return localServer
	}
	list, err := discovery.Find(g.ctx, lookFor)
	if err != nil || len(list) == 0 {
		return localServer
	}
	if len(list) > 1 {
		var names []string
		for _, s := range list {
			names = append(names, s.Name+" at "+s.URL())
		}
		fmt.Fprintf(os.Stderr, "strake: several servers are there (%s): name one with --server; this machine's is tried\n", strings.Join(names, ", "))
		return localServer
	}
	fmt.Fprintf(os.Stderr, "strake: using %s at %s, which was found in the local network\n", list[0].Name, list[0].URL())
	return list[0].URL()
}
