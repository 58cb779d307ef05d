// Package discovery announces a server in the local network and finds servers
// there: DNS-based service discovery (RFC 6763) over multicast DNS (RFC 6762),
// service type _strake._tcp.
//
// It owns: what is announced and how it is understood. It must not know what a
// server serves. What is found is said by whoever answers: it proves nothing.
//
// Announce and Find start the goroutines of the library below them and return
// when these have ended.
package discovery

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/brutella/dnssd"

	"github.com/strakefs/strake/internal/fsapi"
)

const service = "_strake._tcp"

// Service is what is announced.
type Service struct {
	Name    string // of this server, for people; the library makes it unique in the network
	Address string // HOST:PORT that the REST door listens at
	Version string
	TLS     bool
}

// Server is what was found.
type Server struct {
	Name    string `json:"name"`
	Address string `json:"address"` // HOST:PORT
	Version string `json:"version"`
	TLS     bool   `json:"tls"`
}

// URL is where the server's REST door is.
func (s *Server) URL() string {
	if s.TLS {
		return "https://" + s.Address
	}
	return "http://" + s.Address
}

// Beyond reports whether an address is reached from other machines.
func Beyond(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "localhost" {
		return false
	}
	ip := net.ParseIP(host)
	return ip == nil || !ip.IsLoopback()
}

// Announce announces a server until ctx ends: on every interface, or where it
// listens at one address on the interface that has it. A server that listens
// on loopback only is not announced: fsapi.Invalid.
func Announce(ctx context.Context, s Service) error {
	host, portText, err := net.SplitHostPort(s.Address)
	if err != nil || !Beyond(s.Address) {
		return fsapi.Errorf(fsapi.Invalid, "a server that listens at %q is not reached from other machines: it is not announced", s.Address)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return fsapi.Errorf(fsapi.Invalid, "announce %s: no port", s.Address)
	}
	ifaces, err := interfacesOf(host)
	if err != nil {
		return err
	}
	srv, err := dnssd.NewService(dnssd.Config{
		Name: s.Name, Type: service, Port: port, Ifaces: ifaces,
		Text: map[string]string{"v": "1", "version": s.Version, "tls": strconv.FormatBool(s.TLS)},
	})
	if err != nil {
		return fsapi.Wrap(fsapi.Other, err, "announce the server")
	}
	r, err := dnssd.NewResponder()
	if err == nil {
		_, err = r.Add(srv)
	}
	if err == nil {
		err = r.Respond(ctx)
	}
	if ctx.Err() != nil {
		return nil
	}
	return fsapi.Wrap(fsapi.IO, err, "announce the server in the local network")
}

// interfacesOf names the interface that has an address; none for all.
func interfacesOf(host string) ([]string, error) {
	want := net.ParseIP(host)
	if want == nil || want.IsUnspecified() {
		return nil, nil
	}
	all, err := net.Interfaces()
	if err != nil {
		return nil, fsapi.Wrap(fsapi.IO, err, "list network interfaces")
	}
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.Equal(want) {
				return []string{i.Name}, nil
			}
		}
	}
	return nil, fsapi.Errorf(fsapi.NotExist, "no interface has the address %s, which is to be announced", host)
}

// Find asks the local network for servers and returns those that answered
// within a time, by name. No answer is no error.
func Find(ctx context.Context, wait time.Duration) ([]Server, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var mu sync.Mutex
	found := map[string]Server{}
	add := func(e dnssd.BrowseEntry) {
		if s, ok := serverOf(&e); ok {
			mu.Lock()
			defer mu.Unlock()
			found[e.Name] = s
		}
	}
	err := dnssd.LookupType(ctx, service+".local.", add, func(dnssd.BrowseEntry) {})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		return nil, fsapi.Wrap(fsapi.IO, err, "ask the local network for servers")
	}
	mu.Lock()
	defer mu.Unlock()
	list := make([]Server, 0, len(found))
	for _, s := range found {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Server) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// serverOf is what an answer says, with the address that is most likely to be
// reached: IPv4, then IPv6 that is not of one link only.
func serverOf(e *dnssd.BrowseEntry) (Server, bool) {
	best := -1
	rank := func(ip net.IP) int {
		switch {
		case ip.To4() != nil && !ip.IsLoopback():
			return 0
		case !ip.IsLinkLocalUnicast() && !ip.IsLoopback():
			return 1
		}
		return 2
	}
	for i, ip := range e.IPs {
		if best < 0 || rank(ip) < rank(e.IPs[best]) {
			best = i
		}
	}
	if best < 0 || e.Port < 1 || e.Port > 65535 {
		return Server{}, false
	}
	host := e.IPs[best].String()
	if e.IPs[best].IsLinkLocalUnicast() && e.IPs[best].To4() == nil {
		host += "%" + e.IfaceName
	}
	tls, err := strconv.ParseBool(e.Text["tls"])
	return Server{
		Name: e.Name, Address: net.JoinHostPort(host, strconv.Itoa(e.Port)), Version: e.Text["version"], TLS: tls && err == nil,
	}, true
}
