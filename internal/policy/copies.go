package policy

import (
	"slices"
	"strconv"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
)

// copiesAllow says what the value of copies may be.
const copiesAllow = "TIER:LAYOUT[:OPTION...][,TIER:LAYOUT...] with TIER hot, warm or cold, each once; " +
	"LAYOUT 1 to 16 replicas as in hot:2, or K+M shards of at most 32 as in warm:4+2; " +
	"OPTION evictable, evictable=TIME or min=N (of the replicas or shards, at least K); not all of them evictable"

// Copies is a list of wanted copies with its text form.
type Copies []Copy

// String is the value of a policy's key copies.
func (c Copies) String() string { return formatCopies(c) }

// formatCopies is the text of copies: Parse gives them back.
func formatCopies(copies []Copy) string {
	parts := make([]string, len(copies))
	for i, c := range copies {
		parts[i] = formatCopy(c)
	}
	return strings.Join(parts, ",")
}

func formatCopy(c Copy) string {
	s := c.Tier + ":" + Layout(c)
	switch {
	case c.Evictable && c.EvictAfter > 0:
		s += ":evictable=" + formatTime(c.EvictAfter)
	case c.Evictable:
		s += ":evictable"
	}
	if c.Min != 0 {
		s += ":min=" + strconv.Itoa(c.Min)
	}
	return s
}

// Layout is a copy's layout as text: "3" replicas or "4+2" shards.
func Layout(c Copy) string {
	if c.K > 0 || c.M > 0 {
		return strconv.Itoa(c.K) + "+" + strconv.Itoa(c.M)
	}
	return strconv.Itoa(c.Replicas)
}

func parseCopies(v string) ([]Copy, bool) {
	var copies []Copy
	for part := range strings.SplitSeq(v, ",") {
		c, ok := parseCopy(part)
		if !ok || slices.ContainsFunc(copies, func(o Copy) bool { return o.Tier == c.Tier }) {
			return nil, false
		}
		copies = append(copies, c)
	}
	pinned := slices.ContainsFunc(copies, func(c Copy) bool { return !c.Evictable })
	return copies, pinned
}

func parseCopy(text string) (Copy, bool) {
	parts := strings.Split(text, ":")
	if len(parts) < 2 || !ValidTier(parts[0]) {
		return Copy{}, false
	}
	c, ok := parseLayout(parts[1])
	c.Tier = parts[0]
	for _, o := range parts[2:] {
		ok = ok && setOption(&c, o)
	}
	return c, ok && (c.Min == 0 || c.Min >= max(1, c.K) && c.Min <= c.Width())
}

func parseLayout(s string) (c Copy, ok bool) {
	data, parity, sharded := strings.Cut(s, "+")
	n, err := atoi(data)
	if err != nil || n < 1 {
		return c, false
	}
	if !sharded {
		c.Replicas = n
		return c, n <= fsapi.MaxReplicas
	}
	c.K = n
	c.M, err = atoi(parity)
	return c, err == nil && c.M >= 1 && c.K+c.M <= fsapi.MaxShards
}

// setOption reads one option, each of which stands once.
func setOption(c *Copy, o string) (ok bool) {
	name, value, has := strings.Cut(o, "=")
	switch {
	case name == "evictable" && !c.Evictable:
		c.Evictable = true
		if has {
			c.EvictAfter, ok = parseTime(value)
			return ok
		}
		return true
	case name == "min" && has && c.Min == 0:
		n, err := atoi(value)
		c.Min = n
		return err == nil && n >= 1
	}
	return false
}
