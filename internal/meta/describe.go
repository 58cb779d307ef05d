package meta

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// IsCounter reports whether a key holds a counter (kv.Tx.Add) rather than a
// value: a snapshot shows both alike.
func IsCounter(key []byte) bool {
	if len(key) == 0 {
		return false
	}
	switch key[0] {
	case tabUsage, tabRefs, tabLive, tabJournalN:
		return true
	}
	return false
}

// tables names the tables for people, and says how their keys go on after the
// first byte.
var tables = map[byte]struct{ name, parts string }{
	tabFormat: {"format", ""}, tabVolume: {"volume", "v"}, tabVolName: {"volume-name", "n"}, tabNumber: {"number", "v"},
	tabDrive: {"drive", "i"}, tabSetting: {"setting", "n"}, tabDentry: {"dentry", "vin"}, tabInode: {"inode", "vi"},
	tabLink: {"link", "viin"}, tabSubdir: {"subdir", "vii"}, tabExtent: {"extent", "vii"}, tabXattr: {"xattr", "vin"},
	tabPolicy: {"policy", "vi"}, tabQuota: {"quota", "vi"}, tabUsage: {"usage", "vix"}, tabOrphan: {"orphan", "vi"},
	tabTrash: {"trash", "vii"}, tabReclaim: {"reclaim", "vi"}, tabChunk: {"chunk", "vx"}, tabRefs: {"refs", "vx"},
	tabSweep: {"sweep", "vx"}, tabSegment: {"segment", "x"}, tabLive: {"live", "x"}, tabJournal: {"journal", "vx"},
	tabJournalN: {"journal-bytes", "v"}, tabChanges: {"changes", ""},
}

// Describe prints a record for people: its table, its key in parts, its value
// as far as it can be read, else in hexadecimal.
func Describe(key, value []byte) (table, k, v string) {
	if len(key) == 0 {
		return "unknown", "", fmt.Sprintf("%x", value)
	}
	t, ok := tables[key[0]]
	if !ok {
		return "unknown", fmt.Sprintf("%x", key), fmt.Sprintf("%x", value)
	}
	return t.name, describeKey(t.parts, key[1:]), describeValue(key, value)
}

// describeKey prints v as a 32-bit volume, i as a 64-bit number, n as a name
// and x as hexadecimal to the end.
func describeKey(parts string, rest []byte) string {
	var out []string
	for _, p := range parts {
		switch {
		case p == 'v' && len(rest) >= 4:
			out = append(out, fmt.Sprintf("vol=%d", binary.BigEndian.Uint32(rest)))
			rest = rest[4:]
		case p == 'i' && len(rest) >= 8:
			out = append(out, fmt.Sprint(binary.BigEndian.Uint64(rest)))
			rest = rest[8:]
		case p == 'n':
			out, rest = append(out, fmt.Sprintf("%q", rest)), nil
		default:
			out, rest = append(out, fmt.Sprintf("%x", rest)), nil
		}
	}
	if len(rest) > 0 {
		out = append(out, fmt.Sprintf("%x", rest))
	}
	return strings.Join(out, " ")
}

func describeValue(key, value []byte) string {
	if IsCounter(key) && len(value) == 8 {
		return fmt.Sprintf("counter %x", value)
	}
	if len(value) > 256 {
		return fmt.Sprintf("%x… (%d bytes)", value[:256], len(value))
	}
	return fmt.Sprintf("%x", value)
}
