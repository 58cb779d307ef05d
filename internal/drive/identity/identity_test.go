package identity

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

func TestIdentityText(t *testing.T) {
	id := Identity{ID: 0x0123456789abcdef, Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Role: Drive}
	text := Append(nil, id)
	const want = "strake drive 1\nid 0123456789abcdef\ncreated 2026-01-02T03:04:05Z\ncrc32c a02e5046\n"
	if string(text) != want {
		t.Errorf("text is %q", text)
	}
	if got, err := Parse(text); err != nil || got != id {
		t.Errorf("parsed as %v, %v", got, err)
	}
	for i := range len(text) * 8 {
		bad := bytes.Clone(text)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := Parse(bad); err == nil || fsapi.KindOf(err) != fsapi.Corrupt {
			t.Errorf("bit %d flipped: %v", i, err)
		}
	}
	for n := range text {
		if _, err := Parse(text[:n]); err == nil {
			t.Errorf("cut to %d bytes and accepted", n)
		}
	}
}

func TestRoles(t *testing.T) {
	text := Append(nil, Identity{ID: 1, Role: Backup})
	got, err := Parse(text)
	if err != nil || got.Role != Backup || !bytes.HasPrefix(text, []byte("strake backup 1\n")) {
		t.Errorf("%q is parsed as %v, %v", text, got, err)
	}
	drive := Identity{ID: 1, Role: Drive}
	if err := errors.Join(got.Is(Backup, "x"), drive.Is(Drive, "x"), drive.Is("", "x")); err != nil {
		t.Error(err)
	}
	if got.Is("", "x") == nil || drive.Is(Backup, "x") == nil {
		t.Error("a place of another role is taken")
	}
}

func TestOwnerText(t *testing.T) {
	old := Owner{Store: StoreID{1, 2, 15: 255}, Host: "a \"b\"\n", Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	o := old
	o.Incarnation = Incarnation{3, 15: 4}
	for _, o := range []Owner{old, o} {
		text := AppendOwner(nil, o)
		if got, err := ParseOwner(text); err != nil || got != o {
			t.Errorf("%q is parsed as %v, %v", text, got, err)
		}
		for i := range len(text) * 8 {
			bad := bytes.Clone(text)
			bad[i/8] ^= 1 << (i % 8)
			if _, err := ParseOwner(bad); fsapi.KindOf(err) != fsapi.Corrupt {
				t.Errorf("bit %d flipped: %v", i, err)
			}
		}
		if _, err := Parse(text); fsapi.KindOf(err) != fsapi.Corrupt {
			t.Errorf("an owner is taken for an identity: %v", err)
		}
	}
	for o, want := range map[Owner]string{
		old: "strake owner 1\nstore 010200000000000000000000000000ff\nhost \"a \\\"b\\\"\\n\"\nsince 2026-01-02T03:04:05Z\ncrc32c ",
		o:   "strake owner 2\nstore 010200000000000000000000000000ff\nincarnation 03000000000000000000000000000004\nhost \"a \\\"b\\\"\\n\"\nsince 2026-01-02T03:04:05Z\ncrc32c ",
	} {
		if text := AppendOwner(nil, o); !bytes.HasPrefix(text, []byte(want)) {
			t.Errorf("text is %q", text)
		}
	}
	newer := []byte("strake owner 3\nsomething else\n")
	newer = append(newer, "crc32c "+hex8(checksum(newer))+"\n"...)
	if _, err := ParseOwner(newer); fsapi.KindOf(err) != fsapi.NotSupported {
		t.Errorf("a newer owner: %v", err)
	}
	if err := o.Refuse(Owner{Store: o.Store}, Drive, "x"); err != nil {
		t.Error(err)
	}
	if err := o.Refuse(Owner{Store: StoreID{1}}, Drive, "x"); fsapi.KindOf(err) != fsapi.Busy {
		t.Error(err)
	}
}

func TestAttachmentText(t *testing.T) {
	for _, a := range []Attachment{{}, {Clean: true, Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}} {
		text := AppendAttachment(nil, a)
		if got, err := ParseAttachment(text); err != nil || got != a {
			t.Errorf("%q is parsed as %v, %v", text, got, err)
		}
		for i := range len(text) * 8 {
			bad := bytes.Clone(text)
			bad[i/8] ^= 1 << (i % 8)
			if _, err := ParseAttachment(bad); fsapi.KindOf(err) != fsapi.Corrupt {
				t.Errorf("bit %d flipped: %v", i, err)
			}
		}
	}
}

func FuzzParseAttachment(f *testing.F) {
	f.Add(AppendAttachment(nil, Attachment{Clean: true}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if body, _, ok := cutLast(b); ok {
			b = append(bytes.Clone(body), "crc32c "+hex8(checksum(body))+"\n"...)
		}
		if a, err := ParseAttachment(b); err == nil && !bytes.Equal(AppendAttachment(nil, a), b) {
			t.Errorf("%q is accepted as %v, which is written otherwise", b, a)
		}
	})
}

func FuzzParseOwner(f *testing.F) {
	f.Add(AppendOwner(nil, Owner{Store: StoreID{1}, Host: "host"}))
	f.Add(AppendOwner(nil, Owner{Store: StoreID{1}, Incarnation: Incarnation{2}, Host: "host"}))
	f.Add([]byte("strake owner 2\nstore \nincarnation \nhost \nsince \ncrc32c 00000000\n"))
	f.Add([]byte("strake owner 1\nstore \nhost \nsince \ncrc32c 00000000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if body, _, ok := cutLast(b); ok {
			b = append(bytes.Clone(body), "crc32c "+hex8(checksum(body))+"\n"...)
		}
		if o, err := ParseOwner(b); err == nil && !bytes.Equal(AppendOwner(nil, o), b) {
			t.Errorf("%q is accepted as %v, which is written otherwise", b, o)
		}
	})
}

func TestNewerIdentity(t *testing.T) {
	body := []byte("strake drive 2\nsomething else\n")
	text := append(body, "crc32c "...)
	text = append(text, hex8(checksum(body))+"\n"...)
	if _, err := Parse(text); err == nil || fsapi.KindOf(err) != fsapi.NotSupported {
		t.Errorf("got %v", err)
	}
}

func hex8(n uint32) string {
	var b [8]byte
	for i := range b {
		b[i] = "0123456789abcdef"[n>>(28-4*i)&15]
	}
	return string(b[:])
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("strake drive 1\nid 0123456789abcdef\ncreated 2026-01-02T03:04:05Z\ncrc32c a02e5046\n"))
	f.Add([]byte("strake drive 2\ncrc32c 00000000\n"))
	f.Add([]byte("\n\n\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := Parse(b)
		if err == nil && !bytes.Equal(Append(nil, id), b) {
			t.Errorf("%q is accepted as %v, which is written otherwise", b, id)
		}
		// The same with a right checksum.
		if body, _, ok := cutLast(b); ok {
			sealed := append(bytes.Clone(body), "crc32c "+hex8(checksum(body))+"\n"...)
			if id, err := Parse(sealed); err == nil && !bytes.Equal(Append(nil, id), sealed) {
				t.Errorf("%q is accepted as %v, which is written otherwise", sealed, id)
			}
		}
	})
}

// A clock that is set back makes nothing that is known of an owner young.
func TestClaimWithClockSetBack(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	mine := Owner{Store: StoreID{1}, Since: now}
	reads := 0
	c := NewClaim(&mine, "place", func() time.Time { return now }, func(context.Context) (Owner, error) {
		reads++
		return mine, nil
	})
	for i, step := range []struct {
		by    time.Duration
		reads int // in all
	}{{time.Second, 0}, {-time.Hour, 1}, {time.Second, 1}, {time.Minute, 2}} {
		now = now.Add(step.by)
		if err := c.Holds(t.Context(), time.Minute); err != nil || reads != step.reads {
			t.Errorf("step %d: %d reads, %v", i, reads, err)
		}
	}
}
