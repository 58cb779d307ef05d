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
	case tabUsage, tabRefs, tabLive, tabJournalN, tabHeld:
		return true
	}
	return false
}

// tableText names a table for people, and says how its keys go on after the
// first byte.
func tableText(tab byte) (name, parts string) {
	switch tab {
	case tabFormat:
		return "format", ""
	case tabVolume:
		return "volume", "v"
	case tabVolName:
		return "volume-name", "n"
	case tabNumber:
		return "number", "v"
	case tabDrive:
		return "drive", "i"
	case tabSetting:
		return "setting", "n"
	case tabDentry:
		return "dentry", "vin"
	case tabInode:
		return "inode", "vi"
	case tabLink:
		return "link", "viin"
	case tabSubdir:
		return "subdir", "vii"
	case tabExtent:
		return "extent", "vii"
	case tabXattr:
		return "xattr", "vin"
	case tabPolicy:
		return "policy", "vi"
	case tabQuota:
		return "quota", "vi"
	case tabUsage:
		return "usage", "vix"
	case tabOrphan:
		return "orphan", "vi"
	case tabTrash:
		return "trash", "vii"
	case tabReclaim:
		return "reclaim", "vi"
	case tabChunk:
		return "chunk", "vx"
	case tabRefs:
		return "refs", "vx"
	case tabSweep:
		return "sweep", "vx"
	case tabSegment:
		return "segment", "x"
	case tabLive:
		return "live", "x"
	case tabPending:
		return "pending", "x"
	case tabHeat:
		return "heat", "x"
	case tabJournal:
		return "journal", "vx"
	case tabJournalN:
		return "journal-bytes", "v"
	case tabRetention:
		return "retention", "vii"
	case tabCommit:
		return "commit", "vii"
	case tabSnapshot:
		return "snapshot", "vs"
	case tabSnapName:
		return "snapshot-name", "vn"
	case tabHistory:
		return "history", "vsx"
	case tabHeld:
		return "held", "vs"
	case tabChanges:
		return "changes", ""
	}
	return "", ""
}

// Describe prints a record for people: its table, its key in parts, its value
// as far as it can be read, else in hexadecimal.
func Describe(key, value []byte) (table, k, v string) {
	if len(key) == 0 {
		return "unknown", "", fmt.Sprintf("%x", value)
	}
	name, parts := tableText(key[0])
	if name == "" {
		return "unknown", fmt.Sprintf("%x", key), fmt.Sprintf("%x", value)
	}
	return name, describeKey(parts, key[1:]), describeValue(key, value)
}

// describeKey prints v as a 32-bit volume, s as a 32-bit snapshot, i as a 64-bit number, n as a name
// and x as hexadecimal to the end.
func describeKey(parts string, rest []byte) string {
	var out []string
	for _, p := range parts {
		switch {
		case p == 's' && len(rest) >= 4:
			out = append(out, fmt.Sprintf("snapshot=%d", binary.BigEndian.Uint32(rest)))
			rest = rest[4:]
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
