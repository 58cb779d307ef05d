package blob

import (
	"sync"
	"time"

	"github.com/strakefs/strake/internal/blob/frame"
	"github.com/strakefs/strake/internal/fsapi"
)

// versions knows which versions of data keys batches seal with. Safe for
// concurrent use.
type versions struct {
	mu   sync.Mutex
	open map[versionName]int       // batches under way; guarded by mu
	last map[versionName]time.Time // when the last one ended; guarded by mu
}

type versionName struct {
	volume  fsapi.VolumeID
	version fsapi.KeyVersion
}

// seals sets what a batch seals with, and takes note of it until the batch
// ends. A key that comes into use meanwhile is taken at once, so that Quiet
// misses nobody.
func (b *Batch) seals() error {
	v := &b.st.versions
	v.mu.Lock()
	defer v.mu.Unlock()
	var err error
	if b.version, b.cipher, err = b.st.o.Keys.Current(b.vol); err != nil {
		return err
	}
	v.open[versionName{b.vol, b.version}]++
	b.sealing = true
	return nil
}

// sealedLast takes the note away, once, with the end of the batch.
func (b *Batch) sealedLast() {
	v := &b.st.versions
	v.mu.Lock()
	defer v.mu.Unlock()
	if !b.sealing {
		return
	}
	b.sealing = false
	n := versionName{b.vol, b.version}
	v.last[n] = b.st.o.Clock.Now()
	if v.open[n]--; v.open[n] == 0 {
		delete(v.open, n)
	}
}

// Quiet reports whether no batch under way seals frames of a volume with a
// version below v, and since when: the zero time where none did since New. What
// such a batch made may still be on its way into the metadata for as long as
// its caller takes. REQUIRES that v is current.
func (s *Store) Quiet(vol fsapi.VolumeID, v fsapi.KeyVersion) (since time.Time, quiet bool) {
	s.versions.mu.Lock()
	defer s.versions.mu.Unlock()
	for n := range s.versions.open {
		if n.volume == vol && n.version < v {
			return time.Time{}, false
		}
	}
	for n, t := range s.versions.last {
		if n.volume == vol && n.version < v && t.After(since) {
			since = t
		}
	}
	return since, true
}

// FrameVersion is the version of the data key that a frame is sealed with; 0
// without encryption. fsapi.Corrupt.
func FrameVersion(sealed []byte) (fsapi.KeyVersion, error) {
	h, err := frame.Parse(sealed)
	return h.Key, err
}

// Reseal is an inline frame sealed anew with the volume's current data key; ok
// is false where it is already. sealed stays as it is. fsapi.Corrupt where it
// does not open.
func (s *Store) Reseal(vol fsapi.VolumeID, id fsapi.ChunkID, sealed []byte) (fresh []byte, ok bool, err error) {
	h, err := frame.Parse(sealed)
	if err != nil {
		return nil, false, fsapi.Wrap(fsapi.Corrupt, err, "inline frame of chunk "+id.String())
	}
	version, cipher, err := s.o.Keys.Current(vol)
	if err != nil || h.Key >= version && h.Cipher == cipher {
		return nil, false, err
	}
	if _, err := parseFrame(sealed, want{vol, h.Segment, id, h.Len}); err != nil {
		return nil, false, fsapi.Wrap(fsapi.Corrupt, err, "inline frame of chunk "+id.String())
	}
	k, err := s.keys.get(keyName{h.Segment, vol, h.Key, h.Cipher})
	if err != nil {
		return nil, false, err
	}
	spent := append([]byte(nil), sealed...) // opened in place
	body, err := k.Open(nil, spent, &h)
	if err != nil {
		return nil, false, fsapi.Wrap(fsapi.Corrupt, err, "inline frame of chunk "+id.String())
	}
	return s.resealBody(h, version, cipher, body)
}

// resealBody seals an opened body as the next journal frame of this process.
func (s *Store) resealBody(h frame.Header, version fsapi.KeyVersion, cipher Cipher, body []byte) ([]byte, bool, error) {
	n := frame.HeaderSize + len(body) + frame.Overhead(cipher)
	loc, err := s.journal.place(n)
	if err != nil {
		return nil, false, err
	}
	k, err := s.keys.get(keyName{loc.Segment, h.Volume, version, cipher})
	if err != nil {
		return nil, false, err
	}
	fresh := make([]byte, n)
	next := frame.Header{Codec: h.Codec, Volume: h.Volume, Key: version, Index: loc.Offset, Len: h.Len, Segment: loc.Segment, Chunk: h.Chunk}
	k.Seal(fresh, &next, body)
	return fresh, true, nil
}
