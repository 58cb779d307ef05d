package drive

import (
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
)

// Bounds of names and of what Replace takes.
const (
	MaxName    = 200     // bytes
	MaxParts   = 4       // between slashes
	MaxReplace = 1 << 20 // bytes
)

// CheckName says fsapi.Invalid for what is not a name of a blob: see Drive.
func CheckName(name string) error {
	if len(name) == 0 || len(name) > MaxName {
		return fsapi.Errorf(fsapi.Invalid, "blob name of %d bytes: want 1 to %d", len(name), MaxName)
	}
	start := 0 // of the present part
	parts := 1
	for i := 0; i <= len(name); i++ {
		switch {
		case i == len(name) || name[i] == '/':
			if i == start {
				return fsapi.Errorf(fsapi.Invalid, "blob name %q has an empty part", name)
			}
			if i < len(name) {
				start, parts = i+1, parts+1
			}
		case i == start && name[i] == '.':
			return fsapi.Errorf(fsapi.Invalid, "blob name %q has a part that starts with a dot", name)
		case !nameByte(name[i]):
			return fsapi.Errorf(fsapi.Invalid, "blob name %q has a byte outside [a-zA-Z0-9._/-]", name)
		}
	}
	if parts > MaxParts {
		return fsapi.Errorf(fsapi.Invalid, "blob name %q has %d parts: want at most %d", name, parts, MaxParts)
	}
	return nil
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._-", c) >= 0
}
