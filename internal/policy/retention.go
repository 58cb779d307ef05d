package policy

import (
	"strings"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// RetentionMode says who may end retention before its time.
type RetentionMode string

// The modes. RetentionOff is of policies only: files are not retained.
const (
	RetentionOff RetentionMode = "off"
	Governance   RetentionMode = "governance" // the superuser, who says so
	Compliance   RetentionMode = "compliance" // nobody
)

// DefaultGrace is how long a new file stays as it is before it is committed,
// where a policy does not say.
const DefaultGrace = 5 * time.Minute

// Retention is what a policy asks for new files: once a file is committed it is
// retained for Period. A file is committed when its last write permission is
// taken away, or when it has been left alone for Grace. The zero Retention
// inherits.
type Retention struct {
	Mode   RetentionMode
	Period time.Duration
	Grace  time.Duration
}

// On reports whether files are to be retained.
func (r Retention) On() bool { return r.Mode == Governance || r.Mode == Compliance }

// String is the text form: off, or MODE:PERIOD:GRACE; "" for the zero
// Retention.
func (r Retention) String() string {
	if !r.On() {
		return string(r.Mode)
	}
	s := string(r.Mode) + ":" + formatTrash(r.Period)
	if r.Grace != DefaultGrace {
		s += ":" + formatTrash(r.Grace)
	}
	return s
}

// maxRetention is the longest period: a hundred years.
const maxRetention = 36_525 * day

func parseRetention(v string) (Retention, bool) {
	if v == string(RetentionOff) {
		return Retention{Mode: RetentionOff}, true
	}
	mode, rest, _ := strings.Cut(v, ":")
	period, grace, has := strings.Cut(rest, ":")
	r := Retention{Mode: RetentionMode(mode), Grace: DefaultGrace}
	var ok bool
	if r.Period, ok = parseTrash(period); !ok || !r.On() || r.Period <= 0 || r.Period > maxRetention {
		return Retention{}, false
	}
	if has {
		if r.Grace, ok = parseTrash(grace); !ok || r.Grace <= 0 || r.Grace > maxRetention {
			return Retention{}, false
		}
	}
	return r, true
}

// Retained is what holds a file: it cannot be changed, moved or deleted before
// Until, nor while Hold, the legal hold, is on. The zero Retained holds
// nothing. Text form: "mode=compliance until=2027-01-01T00:00:00Z hold=on", of
// which mode and until go together and each part may be missing.
type Retained struct {
	Mode  RetentionMode // Governance or Compliance; "": Until does not count
	Until time.Time
	Hold  bool
}

// Active reports whether r holds a file at a time.
func (r Retained) Active(now time.Time) bool { return r.Hold || r.Timed(now) }

// Timed reports whether r holds a file at a time without regard to Hold.
func (r Retained) Timed(now time.Time) bool { return r.Mode != "" && now.Before(r.Until) }

// String is the text form.
func (r Retained) String() string {
	var parts []string
	if r.Mode != "" {
		parts = append(parts, "mode="+string(r.Mode), "until="+r.Until.UTC().Format(time.RFC3339Nano))
	}
	if r.Hold {
		parts = append(parts, "hold=on")
	}
	return strings.Join(parts, " ")
}

// ParseRetained reads the text form: fsapi.Invalid.
func ParseRetained(text string) (Retained, error) {
	var r Retained
	bad := func() (Retained, error) {
		return Retained{}, fsapi.Errorf(fsapi.Invalid, "%q is no retention: want mode=governance or mode=compliance with until=TIME as in 2027-01-01T00:00:00Z and before 2242, hold=on or hold=off", text)
	}
	seen := map[string]bool{}
	for _, pair := range strings.Fields(text) {
		key, value, _ := strings.Cut(pair, "=")
		if seen[key] {
			return bad()
		}
		seen[key] = true
		switch key {
		case "mode":
			r.Mode = RetentionMode(value)
		case "until":
			t, err := time.Parse(time.RFC3339Nano, value)
			if err != nil || t.Unix() < 0 || t.Unix() > 1<<33 {
				return bad()
			}
			r.Until = t.UTC()
		case "hold":
			if value != "on" && value != "off" {
				return bad()
			}
			r.Hold = value == "on"
		default:
			return bad()
		}
	}
	if seen["mode"] != seen["until"] || seen["mode"] && r.Mode != Governance && r.Mode != Compliance {
		return bad()
	}
	return r, nil
}
