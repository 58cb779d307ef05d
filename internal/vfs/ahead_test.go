package vfs_test

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// aheadBlob notes how far it is asked to read ahead.
type aheadBlob struct {
	vfs.Blob
	mu   sync.Mutex
	upto int64 // guarded by mu
}

func (b *aheadBlob) Prefetch(vol fsapi.VolumeID, exts []fsapi.Extent) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range exts {
		b.upto = max(b.upto, exts[i].End())
	}
	return len(exts) // and forgets them
}

func (b *aheadBlob) ahead(of int64) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.upto - of
}

// Who has just begun has little fetched for him, who goes on as much as is
// configured, and who begins anew little again.
func TestReadAheadGrowsWithWhatIsRead(t *testing.T) {
	const mib, most = 1 << 20, 16 << 20
	var b *aheadBlob
	r := newRig(t, rigOptions{options: func(o *vfs.Options) {
		b = &aheadBlob{Blob: o.Blob}
		o.Blob, o.ReadAhead = b, most
	}})
	data := make([]byte, 64*mib)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	f := r.create("x")
	defer f.Close()
	r.write(f, data, 0)
	r.ok(f.Sync(r.ctx, false))
	r.blob.DropCaches()
	at := int64(0)
	for ; at < 2*mib; at += mib / 4 {
		r.read(f, at, mib/4)
	}
	if n := b.ahead(at); n <= 0 || n > 6*mib {
		t.Errorf("%d MiB are fetched ahead of one who has read %d", n/mib, at/mib)
	}
	for ; at < 24*mib; at += mib / 4 {
		r.read(f, at, mib/4)
	}
	if n := b.ahead(at); n < most/2-mib || n > most+2*mib {
		t.Errorf("%d MiB are fetched ahead of one who has read %d", n/mib, at/mib)
	}
	at = 50 * mib
	for ; at < 51*mib; at += mib / 4 {
		r.read(f, at, mib/4)
	}
	if n := b.ahead(at); n <= 0 || n > 6*mib {
		t.Errorf("%d MiB are fetched ahead of one who has read 1 elsewhere", n/mib)
	}
}
