package drivetest

import (
	"testing"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// ReadOnly checks a drive that is open read-only on a place where a writer, which
// is open too, writes: it shows what is there, and changes nothing.
func ReadOnly(t *testing.T, writer, reader drive.Drive) {
	t.Helper()
	write(t, writer, "seg/one", []byte("before"))
	want := []byte("before")
	got := make([]byte, len(want))
	if n, err := reader.ReadAt(t.Context(), "seg/one", 0, got); n != len(want) || string(got) != string(want) {
		t.Fatalf("read %q, %v", got[:n], err)
	}
	write(t, writer, "seg/two", []byte("later"))
	if b, err := reader.Stat(t.Context(), "seg/two"); err != nil || b.Size != 5 {
		t.Fatalf("stat of what came later: %+v, %v", b, err)
	}
	refused := func(what string, err error) {
		t.Helper()
		if fsapi.KindOf(err) != fsapi.ReadOnly {
			t.Errorf("%s: %v, want %v", what, err, fsapi.ReadOnly)
		}
	}
	_, err := reader.Create(t.Context(), "seg/three", 1)
	refused("create", err)
	refused("delete", reader.Delete(t.Context(), "seg/one"))
	refused("delete many", drive.DeleteMany(t.Context(), reader, []string{"seg/one"}))
	refused("replace", reader.Replace(t.Context(), "seg/one", nil))
	if _, err := reader.Capacity(t.Context()); err != nil {
		t.Error(err)
	}
}

func write(t *testing.T, d drive.Drive, name string, data []byte) {
	t.Helper()
	w, err := d.Create(t.Context(), name, int64(len(data)))
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Commit(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}
