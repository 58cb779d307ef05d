package main

import (
	"strconv"
	"strings"

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
