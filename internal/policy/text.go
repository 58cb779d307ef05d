package policy

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// Bounds of what Validate accepts.
const (
	MinChunk = 4 << 10  // bytes in the smallest average or fixed chunk
	MaxChunk = 16 << 20 // bytes in the largest chunk
)

// TrashOff is the Trash of a policy that keeps no deleted files.
const TrashOff time.Duration = -1

// key is one key of the text form.
type key struct {
	name  string
	allow string // what a value may be, for messages
	get   func(*Policy) string
	set   func(*Policy, string) bool // false: not a value of this key
	clear func(*Policy)
}

// keys are the keys of the text form, in the order of printing.
var keys = []key{
	{"copies", copiesAllow,
		func(p *Policy) string { return formatCopies(p.Copies) },
		func(p *Policy, v string) (ok bool) { p.Copies, ok = parseCopies(v); return ok },
		func(p *Policy) { p.Copies = nil }},
	{"compression", "auto, none, s2 or zstd-1 to zstd-19",
		func(p *Policy) string { return string(p.Compression) },
		func(p *Policy, v string) bool { p.Compression = Compression(v); return p.Compression.valid() },
		func(p *Policy) { p.Compression = "" }},
	{"chunking", "cdc, cdc:MIN/AVG/MAX as in cdc:64K/256K/1M (512 ≤ MIN < AVG < MAX ≤ 16M, AVG ≥ 4K), or fixed:BYTES (4K to 16M, a multiple of 512)",
		func(p *Policy) string { return p.Chunking.String() },
		func(p *Policy, v string) (ok bool) { p.Chunking, ok = parseChunking(v); return ok },
		func(p *Policy) { p.Chunking = Chunking{} }},
	{"ack", "async, local, quorum or remote",
		func(p *Policy) string { return string(p.Ack) },
		func(p *Policy, v string) bool { p.Ack = Ack(v); return p.Ack.valid() },
		func(p *Policy) { p.Ack = "" }},
	{"trash", "a time such as 90m, 24h or 7d, or off",
		func(p *Policy) string { return formatTrash(p.Trash) },
		func(p *Policy, v string) (ok bool) { p.Trash, ok = parseTrash(v); return ok },
		func(p *Policy) { p.Trash = 0 }},
	{"atime", "relatime, strictatime or noatime",
		func(p *Policy) string { return string(p.Atime) },
		func(p *Policy, v string) bool { p.Atime = Atime(v); return p.Atime.valid() },
		func(p *Policy) { p.Atime = "" }},
	{"retention", "off, or MODE:PERIOD or MODE:PERIOD:GRACE with MODE governance or compliance and times such as 90m, 24h or 365d",
		func(p *Policy) string { return p.Retention.String() },
		func(p *Policy, v string) (ok bool) { p.Retention, ok = parseRetention(v); return ok },
		func(p *Policy) { p.Retention = Retention{} }},
}

// Keys are the keys of the text form in the order of printing.
func Keys() []string {
	names := make([]string, len(keys))
	for i := range keys {
		names[i] = keys[i].name
	}
	return names
}

// Parse reads the text form: key=value pairs in any order, parted by white
// space; a key that is absent stays zero, so that it is inherited. Sizes are
// bytes or carry K, M (powers of 1024; KiB and MiB are taken too). The error
// is fsapi.Invalid and names the key and the allowed values.
func Parse(text string) (Policy, error) {
	var p Policy
	seen := make(map[string]bool, len(keys))
	for _, pair := range strings.Fields(text) {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return Policy{}, fsapi.Errorf(fsapi.Invalid, "policy: %q is not key=value; keys are %s", pair, strings.Join(Keys(), ", "))
		}
		k, err := find(name)
		if err != nil {
			return Policy{}, err
		}
		if seen[name] {
			return Policy{}, fsapi.Errorf(fsapi.Invalid, "policy: %s is given twice", name)
		}
		seen[name] = true
		if !k.set(&p, value) {
			return Policy{}, k.refuse(value)
		}
	}
	return p, nil
}

func find(name string) (*key, error) {
	i := slices.IndexFunc(keys, func(k key) bool { return k.name == name })
	if i < 0 {
		return nil, fsapi.Errorf(fsapi.Invalid, "policy: unknown key %q; keys are %s", name, strings.Join(Keys(), ", "))
	}
	return &keys[i], nil
}

func (k *key) refuse(value string) error {
	return fsapi.Errorf(fsapi.Invalid, "policy: %s=%s is not possible: want %s", k.name, value, k.allow)
}

// String is the text form, with the keys that are set in the order of Keys.
// Parse gives the same Policy back if it is valid, except that any negative
// Trash comes back as TrashOff.
func (p Policy) String() string {
	var b strings.Builder
	for i := range keys {
		v := keys[i].get(&p)
		if v == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(keys[i].name + "=" + v)
	}
	return b.String()
}

// Validate checks the fields that are set. The error is fsapi.Invalid and
// names the key and the allowed values.
func (p Policy) Validate() error {
	for i := range keys {
		k := &keys[i]
		v := k.get(&p)
		if v == "" {
			continue
		}
		if !k.set(new(Policy), v) {
			return k.refuse(v)
		}
	}
	return nil
}

// Complete reports as an error, fsapi.Invalid, the first key that is not set.
// The policy of a volume must be complete.
func (p Policy) Complete() error {
	for i := range keys {
		if keys[i].get(&p) == "" {
			return fsapi.Errorf(fsapi.Invalid, "policy: %s is not set: want %s", keys[i].name, keys[i].allow)
		}
	}
	return nil
}

// Without is p with one key, by its name in the text form, inherited again.
func (p Policy) Without(name string) (Policy, error) {
	k, err := find(name)
	if err != nil {
		return p, err
	}
	k.clear(&p)
	return p, nil
}

// Equal reports whether p and q ask for the same.
func (p Policy) Equal(q Policy) bool { return p.String() == q.String() }

// MarshalText is the text form; encoding/json makes it a string. The error is
// Validate's.
func (p Policy) MarshalText() ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return []byte(p.String()), nil
}

// UnmarshalText is Parse.
func (p *Policy) UnmarshalText(text []byte) error {
	q, err := Parse(string(text))
	if err == nil {
		*p = q
	}
	return err
}

// ValidTier reports whether tier is hot, warm or cold.
func ValidTier(tier string) bool { return tier == "hot" || tier == "warm" || tier == "cold" }

// Level is the compressor's name ("auto", "none", "s2", "zstd") and for zstd
// its level, 1 to 19. ok is false where c is none of the allowed values.
func (c Compression) Level() (name string, level int, ok bool) {
	name, num, found := strings.Cut(string(c), "-")
	if !found {
		return name, 0, name == "auto" || name == "none" || name == "s2"
	}
	level, err := atoi(num)
	return name, level, err == nil && name == "zstd" && level >= 1 && level <= 19
}

func (c Compression) valid() bool {
	_, _, ok := c.Level()
	return ok
}

func (a Ack) valid() bool {
	return a == AckAsync || a == AckLocal || a == AckQuorum || a == AckRemote
}

func (a Atime) valid() bool { return a == Relatime || a == StrictAtime || a == NoAtime }

// String is the text form, "" for the zero Chunking.
func (c Chunking) String() string {
	switch {
	case c == Chunking{}:
		return ""
	case c.Fixed != 0 && c.Min|c.Avg|c.Max == 0:
		return "fixed:" + formatSize(c.Fixed)
	case c.Fixed != 0: // both: no text form, and Validate refuses it
		return "fixed:" + formatSize(c.Fixed) + "+" + formatCDC(c)
	}
	return formatCDC(c)
}

func formatCDC(c Chunking) string {
	return "cdc:" + formatSize(c.Min) + "/" + formatSize(c.Avg) + "/" + formatSize(c.Max)
}

func parseChunking(v string) (Chunking, bool) {
	kind, arg, has := strings.Cut(v, ":")
	switch {
	case kind == "cdc" && !has:
		return Default().Chunking, true
	case kind == "cdc":
		return parseCDC(arg)
	case kind == "fixed":
		n, ok := parseSize(arg)
		return Chunking{Fixed: n}, ok && n >= MinChunk && n <= MaxChunk && n%512 == 0
	}
	return Chunking{}, false
}

func parseCDC(arg string) (Chunking, bool) {
	parts := strings.Split(arg, "/")
	if len(parts) != 3 {
		return Chunking{}, false
	}
	var n [3]int
	for i, part := range parts {
		var ok bool
		if n[i], ok = parseSize(part); !ok {
			return Chunking{}, false
		}
	}
	c := Chunking{Min: n[0], Avg: n[1], Max: n[2]}
	return c, c.Min >= 512 && c.Avg >= MinChunk && c.Min < c.Avg && c.Avg < c.Max && c.Max <= MaxChunk
}

// Largest is the size in bytes of the largest chunk that c cuts.
func (c Chunking) Largest() int { return max(c.Max, c.Fixed) }

func formatSize(n int) string {
	switch {
	case n != 0 && n%(1<<20) == 0:
		return strconv.Itoa(n>>20) + "M"
	case n != 0 && n%(1<<10) == 0:
		return strconv.Itoa(n>>10) + "K"
	}
	return strconv.Itoa(n)
}

func parseSize(s string) (int, bool) {
	s = strings.TrimSuffix(s, "iB")
	shift := 0
	switch {
	case strings.HasSuffix(s, "M"):
		s, shift = s[:len(s)-1], 20
	case strings.HasSuffix(s, "K"):
		s, shift = s[:len(s)-1], 10
	}
	n, err := atoi(s)
	if err != nil || n > MaxChunk>>shift {
		return 0, false
	}
	return n << shift, true
}

// atoi reads plain decimal digits, so that a value has one spelling.
func atoi(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err == nil && strconv.FormatUint(n, 10) != s {
		return 0, strconv.ErrSyntax
	}
	return int(n), err
}

const day = 24 * time.Hour

func formatTrash(d time.Duration) string {
	switch {
	case d == 0:
		return ""
	case d < 0:
		return "off"
	}
	return formatTime(d)
}

// formatTime writes a positive time: in days where it is several whole ones.
func formatTime(d time.Duration) string {
	if d > day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// ParseSpan reads a time such as 90m, 24h or 7d: fsapi.Invalid.
func ParseSpan(v string) (time.Duration, error) {
	d, ok := parseTrash(v)
	if !ok || d <= 0 {
		return 0, fsapi.Errorf(fsapi.Invalid, "%q is no time: want one such as 90m, 24h or 7d", v)
	}
	return d, nil
}

func parseTrash(v string) (time.Duration, bool) {
	if v == "off" {
		return TrashOff, true
	}
	return parseTime(v)
}

// parseTime reads a positive time such as 90m, 24h or 7d.
func parseTime(v string) (time.Duration, bool) {
	if digits, ok := strings.CutSuffix(v, "d"); ok {
		n, err := atoi(digits)
		return time.Duration(n) * day, err == nil && n >= 1 && n <= 100_000
	}
	d, err := time.ParseDuration(v)
	return d, err == nil && d > 0
}
