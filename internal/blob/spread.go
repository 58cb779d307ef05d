package blob

import (
	"slices"
	"strings"

	"github.com/strakefs/strake/internal/drive"
)

// Crowds reports whether a replica or shard on drive `to` would share more of
// its failure domains with the others of its copy than it does on drive `from`.
func Crowds(others []drive.Info, from, to drive.Info) bool {
	var domains []string
	for _, i := range others {
		domains = append(domains, domainOf(i))
	}
	s := newSpread(domains)
	return slices.Compare(s.load(domainOf(to)), s.load(domainOf(from))) > 0
}

// spread keeps replicas and shards apart. A failure domain is a path from the
// largest part to the smallest, as in "zone1/rack2/node3" or just "node3":
// drives are first spread over the largest parts, then within them.
type spread struct {
	held map[string]int // by leading path of a domain
}

func newSpread(domains []string) *spread {
	s := &spread{held: make(map[string]int)}
	for _, d := range domains {
		s.add(d)
	}
	return s
}

// add counts a drive in each part of its domain.
func (s *spread) add(domain string) {
	for _, p := range parts(domain) {
		s.held[p]++
	}
}

// parts are the leading paths of a domain, the shortest first.
func parts(domain string) []string {
	var list []string
	for i := range len(domain) {
		if domain[i] == '/' {
			list = append(list, domain[:i])
		}
	}
	return append(list, strings.TrimSuffix(domain, "/"))
}

// farthest is the index of the first candidate that shares least with what is
// held.
func (s *spread) farthest(cands []candidate) int {
	best, load := 0, s.load(cands[0].domain)
	for i := 1; i < len(cands); i++ {
		if l := s.load(cands[i].domain); slices.Compare(l, load) < 0 {
			best, load = i, l
		}
	}
	return best
}

// load is how many are held in each part of a domain, the largest part first.
func (s *spread) load(domain string) []int {
	var l []int
	for _, p := range parts(domain) {
		l = append(l, s.held[p])
	}
	return l
}
