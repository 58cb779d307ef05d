package identity

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// Attachment is how a drive was left, or is held. It is text, as an Identity is:
//
//	strake attachment 1
//	state dirty
//	since 2026-01-02T03:04:05Z
//	crc32c 89abcdef
//
// state is clean or dirty. since is when it became so: of a dirty one, nothing
// that was written before may have been lost without a word.
type Attachment struct {
	Clean bool
	Since time.Time // to the second
}

func (a Attachment) state() string {
	if a.Clean {
		return "clean"
	}
	return "dirty"
}

// AppendAttachment appends the text form.
func AppendAttachment(dst []byte, a Attachment) []byte {
	start := len(dst)
	dst = fmt.Appendf(dst, "strake attachment %d\nstate %s\nsince %s\n", version, a.state(), a.Since.UTC().Truncate(time.Second).Format(time.RFC3339))
	return seal(dst, start)
}

// ParseAttachment reads the text form; errors as Parse.
func ParseAttachment(b []byte) (Attachment, error) {
	lines, err := parseLines(b, "attachment")
	if err != nil {
		return Attachment{}, err
	}
	if len(lines) != 3 {
		return Attachment{}, fsapi.Errorf(fsapi.Corrupt, "drive identity: %d lines of an attachment, want 3", len(lines))
	}
	a := Attachment{Clean: lines[1] == "state clean"}
	a.Since, err = time.Parse(time.RFC3339, strings.TrimPrefix(lines[2], "since "))
	// There is one text for each attachment.
	if err != nil || !bytes.Equal(AppendAttachment(nil, a), b) {
		return Attachment{}, fsapi.Errorf(fsapi.Corrupt, "drive identity: malformed attachment")
	}
	return a, nil
}
