package policy

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/strakefs/strake/internal/fsapi"
)

func TestParse(t *testing.T) {
	tests := []struct {
		text  string
		want  Policy
		canon string // "" where it is text
	}{
		{"", Policy{}, ""},
		{"copies=hot:2,cold:1", Policy{Copies: []Copy{{Tier: "hot", Replicas: 2}, {Tier: "cold", Replicas: 1}}}, ""},
		{"copies=warm:4+2", Policy{Copies: []Copy{{Tier: "warm", K: 4, M: 2}}}, ""},
		{"copies=hot:1:evictable=30d,warm:10+4:min=12,cold:2:min=1", Policy{Copies: []Copy{
			{Tier: "hot", Replicas: 1, Evictable: true, EvictAfter: 30 * 24 * time.Hour}, {Tier: "warm", K: 10, M: 4, Min: 12}, {Tier: "cold", Replicas: 2, Min: 1},
		}}, ""},
		{"copies=hot:2:min=1:evictable,cold:1", Policy{Copies: []Copy{{Tier: "hot", Replicas: 2, Min: 1, Evictable: true}, {Tier: "cold", Replicas: 1}}}, "copies=hot:2:evictable:min=1,cold:1"},
		{Default().String(), Default(), "copies=hot:1 compression=auto chunking=cdc:64K/256K/1M ack=local trash=24h atime=relatime retention=off"},
		{"retention=compliance:365d", Policy{Retention: Retention{Compliance, 365 * 24 * time.Hour, DefaultGrace}}, ""},
		{"retention=governance:1h30m:1h", Policy{Retention: Retention{Governance, 90 * time.Minute, time.Hour}}, ""},
		{"compression=zstd-19", Policy{Compression: "zstd-19"}, ""},
		{"chunking=cdc", Policy{Chunking: Default().Chunking}, "chunking=cdc:64K/256K/1M"},
		{"chunking=fixed:65536", Policy{Chunking: Chunking{Fixed: 65536}}, "chunking=fixed:64K"},
		{"chunking=fixed:1MiB", Policy{Chunking: Chunking{Fixed: 1 << 20}}, "chunking=fixed:1M"},
		{"chunking=cdc:1000/4096/8000", Policy{Chunking: Chunking{Min: 1000, Avg: 4096, Max: 8000}}, "chunking=cdc:1000/4K/8000"},
		{"trash=off", Policy{Trash: TrashOff}, ""},
		{"trash=168h", Policy{Trash: 168 * time.Hour}, "trash=7d"},
		{"trash=1h30m", Policy{Trash: 90 * time.Minute}, ""},
		{"trash=90s", Policy{Trash: 90 * time.Second}, "trash=1m30s"},
		{"atime=noatime\tack=remote", Policy{Ack: AckRemote, Atime: NoAtime}, "ack=remote atime=noatime"},
	}
	for _, tt := range tests {
		got, err := Parse(tt.text)
		if err != nil {
			t.Errorf("Parse(%q): %v", tt.text, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", tt.text, diff)
		}
		canon := tt.canon
		if canon == "" {
			canon = tt.text
		}
		if got.String() != canon {
			t.Errorf("Parse(%q).String() = %q, want %q", tt.text, got, canon)
		}
	}
}

// A refusal names the key at fault and what may stand there.
func TestParseRefuses(t *testing.T) {
	tests := []struct{ text, want string }{
		{"hot", "key=value"},
		{"copy=hot:1", `unknown key "copy"; keys are copies, compression`},
		{"copies=", "copies="},
		{"copies=hot:0", "1 to 16 replicas"},
		{"copies=hot:17", "1 to 16 replicas"},
		{"copies=hot:01", "1 to 16 replicas"},
		{"copies=hot", "copies=hot "},
		{"copies=tepid:1", "hot, warm or cold"},
		{"copies=hot:1,hot:2", "each once"},
		{"copies=hot:1,", "copies=hot:1, "},
		{"copies=hot:0+1", "K+M"},
		{"copies=hot:4+0", "K+M"},
		{"copies=hot:30+3", "at most 32"},
		{"copies=hot:1:evictable", "not all of them evictable"},
		{"copies=hot:1:evictable=0s,cold:1", "evictable=TIME"},
		{"copies=warm:4+2:min=3", "at least K"},
		{"copies=warm:4+2:min=7", "at least K"},
		{"copies=hot:3:min=0", "min=N"},
		{"copies=hot:3:min=1:min=2", "min=N"},
		{"copies=hot:3:pink", "OPTION"},
		{"compression=", "auto, none, s2"},
		{"compression=zstd", "zstd-1 to zstd-19"},
		{"compression=zstd-0", "zstd-1 to zstd-19"},
		{"compression=zstd-20", "zstd-1 to zstd-19"},
		{"compression=s2-1", "zstd-1 to zstd-19"},
		{"chunking=fixed", "fixed:BYTES"},
		{"chunking=fixed:4095", "4K to 16M"},
		{"chunking=fixed:5000", "multiple of 512"},
		{"chunking=fixed:17M", "4K to 16M"},
		{"chunking=fixed:99999999999999999999M", "4K to 16M"},
		{"chunking=cdc:1M/256K/64K", "MIN < AVG < MAX"},
		{"chunking=cdc:64K/256K", "MIN/AVG/MAX"},
		{"chunking=cdc:", "MIN/AVG/MAX"},
		{"ack=sure", "async, local, quorum or remote"},
		{"trash=0", "off"},
		{"trash=-1h", "off"},
		{"trash=999999999d", "off"},
		{"atime=never", "relatime, strictatime or noatime"},
		{"ack=local ack=async", "ack is given twice"},
		{"retention=compliance", "MODE:PERIOD"},
		{"retention=compliance:0h", "MODE:PERIOD"},
		{"retention=off:1h", "MODE:PERIOD"},
		{"retention=strict:1h", "MODE:PERIOD"},
		{"retention=compliance:1h:off", "MODE:PERIOD"},
		{"retention=compliance:99999d", "MODE:PERIOD"},
	}
	for _, tt := range tests {
		p, err := Parse(tt.text)
		if !errors.Is(err, fsapi.Invalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Parse(%q) = %q, %v; want Invalid with %q", tt.text, p, err, tt.want)
		}
		if !p.IsZero() {
			t.Errorf("Parse(%q) gave %q beside an error", tt.text, p)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, p := range []Policy{
		{Copies: []Copy{{Tier: "hot", Replicas: 0}}},
		{Copies: []Copy{{Tier: "", Replicas: 1}}},
		{Compression: "lzma"},
		{Chunking: Chunking{Fixed: 1}},
		{Chunking: Chunking{Min: 64 << 10, Avg: 256 << 10, Max: 1 << 20, Fixed: 64 << 10}},
		{Chunking: Chunking{Avg: 256 << 10}},
		{Ack: "x"},
		{Atime: "x"},
	} {
		if err := p.Validate(); !errors.Is(err, fsapi.Invalid) {
			t.Errorf("Validate(%+v) = %v, want Invalid", p, err)
		}
		if b, err := json.Marshal(p); err == nil {
			t.Errorf("Marshal(%+v) = %s, want an error", p, b)
		}
	}
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	if err := (Policy{Trash: -5}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestCompleteAndWithout(t *testing.T) {
	if err := Default().Complete(); err != nil {
		t.Fatal(err)
	}
	for _, name := range Keys() {
		p, err := Default().Without(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Complete(); err == nil || !strings.Contains(err.Error(), name+" is not set") {
			t.Errorf("without %s: %v", name, err)
		}
		if !p.Or(Default()).Equal(Default()) {
			t.Errorf("without %s does not inherit it again", name)
		}
	}
	if _, err := Default().Without("colour"); !errors.Is(err, fsapi.Invalid) {
		t.Errorf("unknown key: %v", err)
	}
}

func TestJSON(t *testing.T) {
	b, err := json.Marshal(map[string]Policy{"policy": {Compression: "none", Ack: AckAsync}})
	if err != nil || string(b) != `{"policy":"compression=none ack=async"}` {
		t.Fatalf("%s, %v", b, err)
	}
	var back map[string]Policy
	if err := json.Unmarshal(b, &back); err != nil || back["policy"].Ack != AckAsync {
		t.Fatalf("%v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"policy":"ack=maybe"}`), &back); err == nil {
		t.Error("a bad policy was taken")
	}
}

func generateCopy(t *rapid.T, tier string, evictable bool) Copy {
	c := Copy{Tier: tier}
	if rapid.Bool().Draw(t, "sharded") {
		c.K = rapid.IntRange(1, fsapi.MaxShards-1).Draw(t, "k")
		c.M = rapid.IntRange(1, fsapi.MaxShards-c.K).Draw(t, "m")
	} else {
		c.Replicas = rapid.IntRange(1, fsapi.MaxReplicas).Draw(t, "replicas")
	}
	if rapid.Bool().Draw(t, "bounded") {
		c.Min = rapid.IntRange(max(1, c.K), c.Width()).Draw(t, "min")
	}
	if c.Evictable = evictable && rapid.Bool().Draw(t, "evictable"); c.Evictable {
		c.EvictAfter = time.Duration(rapid.Int64Range(0, 1<<60).Draw(t, "after"))
	}
	return c
}

// generate draws valid policies, zero fields among them.
func generate(t *rapid.T) Policy {
	var p Policy
	tiers := rapid.Permutation([]string{"hot", "warm", "cold"}).Draw(t, "tiers")
	for i, tier := range tiers[:rapid.IntRange(0, 3).Draw(t, "copies")] {
		p.Copies = append(p.Copies, generateCopy(t, tier, i > 0))
	}
	p.Compression = Compression(rapid.SampledFrom([]string{"", "auto", "none", "s2", "zstd-1", "zstd-19"}).Draw(t, "compression"))
	switch rapid.IntRange(0, 2).Draw(t, "chunking") {
	case 1:
		p.Chunking.Fixed = 512 * rapid.IntRange(MinChunk/512, MaxChunk/512).Draw(t, "fixed")
	case 2:
		c := &p.Chunking
		c.Avg = rapid.IntRange(MinChunk, MaxChunk-1).Draw(t, "avg")
		c.Min = rapid.IntRange(512, c.Avg-1).Draw(t, "min")
		c.Max = rapid.IntRange(c.Avg+1, MaxChunk).Draw(t, "max")
	}
	p.Ack = rapid.SampledFrom([]Ack{"", AckAsync, AckLocal, AckQuorum, AckRemote}).Draw(t, "ack")
	p.Trash = time.Duration(rapid.Int64Range(-1, 1<<60).Draw(t, "trash"))
	p.Atime = rapid.SampledFrom([]Atime{"", Relatime, StrictAtime, NoAtime}).Draw(t, "atime")
	p.Retention.Mode = rapid.SampledFrom([]RetentionMode{"", RetentionOff, Governance, Compliance}).Draw(t, "retention")
	if p.Retention.On() {
		p.Retention.Period = time.Duration(rapid.Int64Range(1, int64(maxRetention)).Draw(t, "period"))
		p.Retention.Grace = time.Duration(rapid.Int64Range(1, int64(maxRetention)).Draw(t, "grace"))
	}
	return p
}

// Text says all that a policy says, and inheritance keeps what is set.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := generate(t)
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		got, err := Parse(p.String())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, got); diff != "" {
			t.Fatalf("%q (-want +got):\n%s", p, diff)
		}
		full := p.Or(Default())
		if err := full.Complete(); err != nil {
			t.Fatal(err)
		}
		if !full.Or(generate(t)).Equal(full) {
			t.Fatal("a complete policy inherited something")
		}
	})
}

// Whatever Parse takes is valid and prints as something it takes as the same.
func FuzzParse(f *testing.F) {
	f.Add(Default().String())
	f.Add("copies=hot:2,cold:1 compression=zstd-3 chunking=fixed:65536 trash=off")
	f.Add("chunking=cdc:1K/4K/16M trash=1h0.5s ack=quorum atime=strictatime")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text)
		if err != nil {
			if !errors.Is(err, fsapi.Invalid) {
				t.Fatalf("%v is not Invalid", err)
			}
			return
		}
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		q, err := Parse(p.String())
		if err != nil || !q.Equal(p) {
			t.Fatalf("%q prints as %q, which is %q, %v", text, p, q, err)
		}
	})
}

func TestRetained(t *testing.T) {
	at := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]Retained{
		"":        {},
		"hold=on": {Hold: true},
		"mode=compliance until=2027-01-02T03:04:05Z":         {Mode: Compliance, Until: at},
		"mode=governance until=2027-01-02T03:04:05Z hold=on": {Mode: Governance, Until: at, Hold: true},
	} {
		got, err := ParseRetained(text)
		if err != nil || !cmp.Equal(got, want) || got.String() != text {
			t.Errorf("%q is %+v, %q, %v", text, got, got, err)
		}
	}
	for _, text := range []string{
		"compliance", "mode=compliance", "until=2027-01-02T03:04:05Z", "mode=off until=2027-01-02T03:04:05Z", "mode=compliance until=tomorrow",
		"hold=1", "hold=on hold=on", "x=y", "mode=compliance until=9999-01-01T00:00:00Z",
	} {
		if r, err := ParseRetained(text); !errors.Is(err, fsapi.Invalid) {
			t.Errorf("%q is %+v, %v", text, r, err)
		}
	}
	if r := (Retained{Mode: Compliance, Until: at}); !r.Active(at.Add(-1)) || r.Active(at) {
		t.Error("it does not end when it says")
	}
}
