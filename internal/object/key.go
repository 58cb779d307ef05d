package object

import "github.com/strakefs/strake/internal/fsapi"

// MaxKey bounds a key, in bytes. Providers allow 1024, of which a prefix takes
// the rest.
const MaxKey = 512

// CheckKey says fsapi.Invalid for what is not a key: 1 to MaxKey bytes of
// [a-zA-Z0-9._=-] in slash-separated parts, none of which is empty, "." or "..".
// Every provider, and every file system, takes such a name as it is.
func CheckKey(key string) error {
	if len(key) == 0 || len(key) > MaxKey {
		return fsapi.Errorf(fsapi.Invalid, "key of %d bytes: want 1 to %d", len(key), MaxKey)
	}
	start := 0 // of the present part
	for i := 0; i <= len(key); i++ {
		if i < len(key) && key[i] != '/' {
			if !keyByte(key[i]) {
				return fsapi.Errorf(fsapi.Invalid, "key %q has a byte outside [a-zA-Z0-9._=/-]", key)
			}
			continue
		}
		switch key[start:i] {
		case "", ".", "..":
			return fsapi.Errorf(fsapi.Invalid, "key %q has the part %q", key, key[start:i])
		}
		start = i + 1
	}
	return nil
}

func keyByte(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return c == '.' || c == '_' || c == '=' || c == '-'
}
