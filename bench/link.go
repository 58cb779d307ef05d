package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// Both ends of a link, from the block for measuring networks (RFC 2544, C.2.2).
const (
	linkHere  = "198.18.0.1"
	linkThere = "198.18.0.2"
)

// link is a network namespace that is reached by a cable of limited rate only.
type link struct {
	name string // of the namespace
	dev  string // this end
}

// link lays a cable over which each way as much passes as o.link says (tc(8),
// RATE). It ends with the turn.
func (m *machine) link() (*link, error) {
	m.o.links++
	n := m.o.links
	l := &link{name: fmt.Sprintf("strake-bench-%d-%d", os.Getpid(), n), dev: fmt.Sprintf("sb%d-%d", os.Getpid()%1e6, n)}
	if len(l.dev) >= unix.IFNAMSIZ {
		return nil, fmt.Errorf("%s is too long for an interface's name", l.dev)
	}
	if _, err := m.tool("ip", "netns", "add", l.name); err != nil {
		return nil, err
	}
	// The cable goes with the namespace that its other end is in.
	m.beside = append(m.beside, func() error { return exec.Command("ip", "netns", "del", l.name).Run() })
	const other = "eth0"
	shape := func(dev string) []string {
		return []string{"tc", "qdisc", "add", "dev", dev, "root", "tbf", "rate", m.o.link, "burst", "256kb", "latency", "50ms"}
	}
	for _, c := range [][]string{
		{"ip", "link", "add", l.dev, "type", "veth", "peer", "name", other, "netns", l.name},
		{"ip", "address", "add", linkHere + "/30", "dev", l.dev},
		{"ip", "link", "set", l.dev, "up"},
		{"ip", "-n", l.name, "address", "add", linkThere + "/30", "dev", other},
		{"ip", "-n", l.name, "link", "set", other, "up"},
		shape(l.dev),
		l.command(shape(other)...),
	} {
		if _, err := m.tool(c[0], c[1:]...); err != nil {
			return nil, errors.Join(errors.New("-link needs ip and tc of iproute2, and the kernel's veth and tbf"), err)
		}
	}
	return l, nil
}

// command is one that runs at the other end. Its mounts are those of here: ip netns
// exec would give it copies, which hold what is unmounted here.
func (l *link) command(args ...string) []string {
	return append([]string{"nsenter", "--net=/run/netns/" + l.name}, args...)
}
