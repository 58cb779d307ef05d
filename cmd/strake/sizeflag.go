package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// sizeFlag is a size flag: a number with an optional K, M, G, T, P, each times
// 1024, optionally followed by iB or B.
type sizeFlag int64

// UnmarshalText reads a size.
func (b *sizeFlag) UnmarshalText(text []byte) error {
	s := strings.ToUpper(strings.TrimSpace(string(text)))
	s = strings.TrimSuffix(strings.TrimSuffix(s, "B"), "I")
	shift := 0
	if s != "" {
		if i := strings.IndexByte("KMGTP", s[len(s)-1]); i >= 0 {
			s, shift = s[:len(s)-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > (1<<62)>>shift {
		return fsapi.Errorf(fsapi.Invalid, "%q is not a size: give a number such as 500M or 2TiB", text)
	}
	*b = sizeFlag(n << shift)
	return nil
}

// timeFlag is a moment flag, in the form of RFC 3339.
type timeFlag struct{ time.Time }

// UnmarshalText reads a moment.
func (f *timeFlag) UnmarshalText(text []byte) (err error) {
	if f.Time, err = time.Parse(time.RFC3339Nano, string(text)); err != nil {
		return fsapi.Errorf(fsapi.Invalid, "%q is no moment: want one such as 2027-01-31T00:00:00Z or 2027-01-31T00:00:00+01:00", text)
	}
	return nil
}
