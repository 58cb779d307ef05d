package config

import (
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// working is what the process needs besides the caches and buffers that can be
// configured.
const working Size = 128 << 20

// Validate checks values and how they go together. The error is fsapi.Invalid
// and names the key.
func (c *Config) Validate() error {
	for _, err := range []error{
		c.Volume.validate(),
		c.Engine.validate(),
		c.validateKeys(),
		c.Discovery.validate(),
		validateDrives(c.Drives),
		c.Rest.validate(),
		c.Backup.validate(),
		oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error"),
		oneOf("log.format", c.Log.Format, "text", "json"),
		c.sizes(),
		c.times(),
		c.numbers(),
		c.Tiering.validate(),
		c.relations(),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// MinCache is the smallest cache of a drive: room for a few pages of the largest
// size.
const MinCache Size = 128 << 20

// marks are the watermarks of a tier: its own, or those of all.
func (t *Tiering) marks(tier string) (high, low float64) {
	own := map[string][2]float64{"hot": {t.HotHigh, t.HotLow}, "warm": {t.WarmHigh, t.WarmLow}, "cold": {t.ColdHigh, t.ColdLow}}[tier]
	high, low = t.High, t.Low
	if own[0] != 0 {
		high = own[0]
	}
	if own[1] != 0 {
		low = own[1]
	}
	return high, low
}

func (t *Tiering) validate() error {
	for _, tier := range []string{"", "hot", "warm", "cold"} {
		high, low := t.marks(tier)
		if !(low > 0 && low < high && high <= 1) { // refuses NaN, too
			return refuse("tiering", "has a low of %v and a high of %v%s: want 0 < low < high ≤ 1", low, high, strings.TrimSuffix(" for tier "+tier, " for tier "))
		}
	}
	if !(t.RecencyWeight >= 0 && t.FrequencyWeight >= 0 && t.RecencyWeight+t.FrequencyWeight > 0 && t.RecencyWeight+t.FrequencyWeight < 1e15) {
		return refuse("tiering.recency_weight", "is %v beside a frequency_weight of %v: want numbers that are not negative, not both 0", t.RecencyWeight, t.FrequencyWeight)
	}
	if t.PromoteWindow < 2*t.PromoteApart {
		return refuse("tiering.promote_window", "is %v: it must be at least twice promote_apart, %v", t.PromoteWindow, t.PromoteApart)
	}
	return nil
}

func refuse(key, format string, args ...any) error {
	return fsapi.Errorf(fsapi.Invalid, key+" "+format, args...)
}

func oneOf(key, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return refuse(key, "is %q: want %s", value, strings.Join(allowed, ", "))
}

func (v *Volume) validate() error {
	if v.Name == "" || len(v.Name) > 64 || strings.ContainsAny(v.Name, "/ \t\n") || strings.HasPrefix(v.Name, ".") {
		return refuse("volume.name", "is %q: want 1 to 64 bytes without slashes and spaces, not starting with a dot", v.Name)
	}
	if _, err := policy.Parse(v.Policy); err != nil {
		return fsapi.Wrap(fsapi.Invalid, err, "volume.policy")
	}
	if _, err := fsapi.ParseCipher(v.Cipher); err != nil {
		return fsapi.Wrap(fsapi.Invalid, err, "volume.cipher")
	}
	return nil
}

func (e *Engine) validate() error {
	switch {
	case oneOf("engine.kind", e.Kind, "pebble", "bucket") != nil:
		return oneOf("engine.kind", e.Kind, "pebble", "bucket")
	case e.Bucket() && e.URL == "":
		return refuse("engine.url", "is empty: want the URL of a bucket, as in s3://BUCKET/PREFIX")
	case !e.Bucket() && e.URL != "":
		return refuse("engine.url", "is set, but engine.kind is %s", e.Kind)
	case e.ReadOnly && !e.Bucket():
		return refuse("engine.read_only", "is set, but engine.kind is %s: only what is in a bucket can be followed", e.Kind)
	case e.Lease && !e.Bucket():
		return refuse("engine.single_writer_lease", "is set, but engine.kind is %s", e.Kind)
	case e.Cache < 16<<20:
		return refuse("engine.cache", "is %v: want at least 16MiB", e.Cache)
	}
	return nil
}

// validateKeys checks the names of what wraps the keyring. What a service needs
// is checked when its client is made.
func (c *Config) validateKeys() error {
	seen := map[string]bool{"password": true, "file": true}
	for i, k := range c.KMS {
		switch {
		case k.Name == "" || len(k.Name) > 64 || strings.ContainsAny(k.Name, ", \t\n"):
			return refuse("kms "+strconv.Itoa(i+1)+": name", "is %q: want 1 to 64 bytes without commas and spaces", k.Name)
		case seen[k.Name]:
			return refuse("kms "+strconv.Quote(k.Name)+": name", "is taken: two wrappings cannot have one name")
		}
		seen[k.Name] = true
	}
	if c.Keys.File != "" && !filepath.IsAbs(c.Keys.File) {
		return refuse("keys.file", "is %q: want an absolute path", c.Keys.File)
	}
	for _, name := range c.Keys.Names() {
		if !seen[name] {
			return refuse("keys.wrap", "names %q: want password, file or the name of a [[kms]]", name)
		}
		if name == "file" && c.Keys.File == "" {
			return refuse("keys.wrap", "names file, but keys.file is not set")
		}
	}
	if len(c.Keys.Names()) == 0 {
		return refuse("keys.wrap", "is empty: something must open the keyring")
	}
	return nil
}

// Names are the names in Wrap.
func (k *Keys) Names() []string {
	return strings.FieldsFunc(k.Wrap, func(r rune) bool { return r == ',' || r == ' ' })
}

func validateDrives(drives []Drive) error {
	seen := map[string]bool{}
	for i, d := range drives {
		key := "drive " + strconv.Itoa(i+1)
		if d.Name != "" {
			key = "drive " + strconv.Quote(d.Name)
		}
		switch {
		case d.Name == "":
			return refuse(key+": name", "is missing")
		case seen[d.Name]:
			return refuse(key+": name", "is given to two drives")
		case !filepath.IsAbs(d.Path):
			return refuse(key+": path", "is %q: want an absolute path of a directory", d.Path)
		case !policy.ValidTier(d.Tier):
			return refuse(key+": tier", "is %q: want hot, warm or cold", d.Tier)
		case d.Reserve < 0:
			return refuse(key+": reserve", "is negative")
		case d.Cache < 0 || d.Cache > 0 && d.Cache < MinCache:
			return refuse(key+": cache", "is %v: want 0 (none) or at least %v", d.Cache, MinCache)
		}
		seen[d.Name] = true
	}
	return nil
}

func (d *Discovery) validate() error {
	if len(d.Name) > 63 || strings.ContainsAny(d.Name, "\x00\n") {
		return refuse("discovery.name", "is %q: want at most 63 bytes on one line", d.Name)
	}
	return nil
}

func (r *Rest) validate() error {
	switch {
	case (r.TLSCert == "") != (r.TLSKey == ""):
		return refuse("rest.tls_cert", "is %q and rest.tls_key is %q: want both or neither", r.TLSCert, r.TLSKey)
	case r.TLSCert != "" && !filepath.IsAbs(r.TLSCert):
		return refuse("rest.tls_cert", "is %q: want an absolute path", r.TLSCert)
	case r.TLSKey != "" && !filepath.IsAbs(r.TLSKey):
		return refuse("rest.tls_key", "is %q: want an absolute path", r.TLSKey)
	}
	if r.Listen == "off" {
		return nil
	}
	_, port, err := net.SplitHostPort(r.Listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return refuse("rest.listen", "is %q: want HOST:PORT with a port of 0 to 65535, or off", r.Listen)
	}
	return nil
}

func (b *Backup) validate() error {
	for i, where := range b.To {
		switch {
		case slices.Contains(b.To[:i], where):
			return refuse("backup.to", "has %q twice", where)
		case !strings.Contains(where, "://") && !filepath.IsAbs(where):
			return refuse("backup.to", "has %q: want the absolute path of a directory or the URL of a bucket", where)
		}
	}
	return nil
}

// sizes checks each size by itself.
func (c *Config) sizes() error {
	for _, s := range []struct {
		key      string
		v        Size
		min, max Size
	}{
		{"memory.limit", c.Memory.Limit, 0, 1 << 50},
		{"cache.chunks", c.Cache.Chunks, 1 << 20, 1 << 50},
		{"cache.metadata", c.Cache.Metadata, 1 << 20, 1 << 50},
		{"read.ahead", c.Read.Ahead, 0, 1 << 30},
		{"read.prefetch", c.Read.Prefetch, 0, 1 << 40},
		{"fuse.read_ahead", c.Fuse.ReadAhead, 0, 1 << 30},
		{"write.dirty", c.Write.Dirty, 16 << 20, 1 << 50},
		{"write.inline", c.Write.Inline, 0, 64 << 10},
		{"journal.max", c.Journal.Max, 0, 8 << 20},
		{"journal.pack", c.Journal.Pack, 1 << 20, 1 << 40},
		{"segment.size", c.Segment.Size, 1 << 20, 64 << 20},
		{"tiering.promote_rate", c.Tiering.PromoteRate, 64 << 10, 1 << 50},
		{"tiering.gather", c.Tiering.Gather, 1 << 20, 1 << 50},
		{"disk_cache.page", c.DiskCache.Page, 16 << 10, 4 << 20},
		{"jobs.rate", c.Jobs.Rate, 0, 1 << 50},
		{"backup.group", c.Backup.Group, 64 << 10, 64 << 20},
		{"backup.keep_bytes", c.Backup.KeepBytes, 0, 1 << 50},
		{"backup.checkpoint", c.Backup.Checkpoint, 1 << 20, 1 << 40},
	} {
		if s.v < s.min || s.v > s.max {
			return refuse(s.key, "is %v: want %v to %v", s.v, s.min, s.max)
		}
	}
	return nil
}

// times checks each time by itself.
func (c *Config) times() error {
	for _, d := range []struct {
		key      string
		v        time.Duration
		min, max time.Duration
	}{
		{"fuse.entry_timeout", c.Fuse.EntryTimeout, 0, 24 * time.Hour},
		{"fuse.attr_timeout", c.Fuse.AttrTimeout, 0, 24 * time.Hour},
		{"engine.lease_term", c.Engine.Term, time.Second, time.Hour},
		{"keys.wait", c.Keys.Wait, 0, time.Hour},
		{"write.flush_age", c.Write.FlushAge, 10 * time.Millisecond, time.Hour},
		{"journal.pack_age", c.Journal.PackAge, time.Second, 24 * time.Hour},
		{"scrub.shallow", c.Scrub.Shallow, 0, 10 * 365 * 24 * time.Hour},
		{"scrub.deep", c.Scrub.Deep, 0, 10 * 365 * 24 * time.Hour},
		{"repair.after", c.Repair.After, 0, 365 * 24 * time.Hour},
		{"jobs.orphans", c.Jobs.Orphans, 0, 10 * 365 * 24 * time.Hour},
		{"gc.delay", c.GC.Delay, 0, 90 * 24 * time.Hour},
		{"gc.interval", c.GC.Interval, time.Second, 24 * time.Hour},
		{"tiering.min_age", c.Tiering.MinAge, time.Second, 90 * 24 * time.Hour},
		{"tiering.promote_window", c.Tiering.PromoteWindow, 2 * time.Second, 30 * 24 * time.Hour},
		{"tiering.promote_apart", c.Tiering.PromoteApart, time.Second, 24 * time.Hour},
		{"tiering.gather_age", c.Tiering.GatherAge, time.Minute, 7 * 24 * time.Hour},
		{"backup.keep", c.Backup.Keep, 0, 10 * 365 * 24 * time.Hour},
		{"backup.age", c.Backup.Age, 10 * time.Millisecond, 24 * time.Hour},
	} {
		if d.v < d.min || d.v > d.max {
			return refuse(d.key, "is %v: want %v to %v", d.v, d.min, d.max)
		}
	}
	return nil
}

func (c *Config) numbers() error {
	for _, n := range []struct {
		key      string
		v        int
		min, max int
	}{
		{"cache.inodes", c.Cache.Inodes, 100, 100_000_000},
		{"tiering.promote_reads", c.Tiering.PromoteReads, 2, 100},
		{"jobs.running", c.Jobs.Running, 1, 16},
		{"write.flushers", c.Write.Flushers, 1, 64},
		{"write.workers", c.Write.Workers, 0, 1024},
	} {
		if n.v < n.min || n.v > n.max {
			return refuse(n.key, "is %d: want %d to %d", n.v, n.min, n.max)
		}
	}
	if !(c.GC.Ratio >= 0 && c.GC.Ratio <= 0.95) { // refuses NaN, too
		return refuse("gc.ratio", "is %v: want 0 to 0.95", c.GC.Ratio)
	}
	return nil
}

// relations checks what one key asks of another.
func (c *Config) relations() error {
	if c.DiskCache.Page&(c.DiskCache.Page-1) != 0 {
		return refuse("disk_cache.page", "is %v: want a power of two", c.DiskCache.Page)
	}
	if c.DiskCache.Dir != "" && !filepath.IsAbs(c.DiskCache.Dir) {
		return refuse("disk_cache.dir", "is %q: want an absolute path", c.DiskCache.Dir)
	}
	if c.Journal.Pack < c.Journal.Max {
		return refuse("journal.pack", "is %v: it must be at least journal.max, %v", c.Journal.Pack, c.Journal.Max)
	}
	if c.Backup.Checkpoint < c.Backup.Group {
		return refuse("backup.checkpoint", "is %v: it must be at least backup.group, %v", c.Backup.Checkpoint, c.Backup.Group)
	}
	need := c.Cache.Chunks + c.Cache.Metadata + c.Write.Dirty + c.Read.Prefetch + working
	if c.Memory.Limit != 0 && c.Memory.Limit < need {
		return refuse("memory.limit", "is %v, but cache.chunks, cache.metadata, write.dirty and read.prefetch with %v to work in need %v: raise it or lower one of them", c.Memory.Limit, working, need)
	}
	return nil
}
