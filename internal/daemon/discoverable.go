package daemon

import (
	"context"
	"os"

	"github.com/strakefs/strake/internal/discovery"
)

// discoverable announces the REST door where that is wanted and of use.
func (s *server) discoverable(ctx context.Context) {
	c := &s.n.cfg.Discovery
	if !c.Announce {
		return
	}
	if !discovery.Beyond(s.listen) {
		s.log.Warn("discovery.announce is set, but the REST door is not reached from other machines: nothing is announced", "listen", s.listen)
		return
	}
	name := c.Name
	if name == "" {
		if host, err := os.Hostname(); err == nil {
			name = host
		} else {
			name = "strake"
		}
	}
	svc := discovery.Service{Name: name, Address: s.listen, Version: Version(), TLS: s.scheme == "https"}
	ctx, s.withdraw = context.WithCancel(context.WithoutCancel(ctx))
	s.n.run(ctx, "discovery", func(ctx context.Context) error { return discovery.Announce(ctx, svc) })
}
