package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/drive/dir"
	"github.com/strakefs/strake/internal/drive/identity"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

// claimRig is a store with a drive beside its main one.
type claimRig struct {
	t   *testing.T
	cfg config.Config
	nas string // where the drive is
	id  fsapi.DriveID
}

func newClaimRig(t *testing.T) *claimRig {
	root := t.TempDir()
	r := &claimRig{t: t, cfg: config.Default(), nas: filepath.Join(root, "nas")}
	r.cfg.Data.Dir = filepath.Join(root, "data")
	r.cfg.Drives = []config.Drive{{Name: "disk", Path: filepath.Join(root, "disk"), Tier: "hot"}, {Name: "nas", Path: r.nas, Tier: "cold"}}
	r.open(func(n *Node) { r.id = n.drives.byName("nas") })
	return r
}

// open opens the store, as a server does, and closes it after fn.
func (r *claimRig) open(fn func(n *Node)) {
	r.t.Helper()
	n, err := openNode(r.t.Context(), r.cfg, slog.New(slog.DiscardHandler), openOrCreate)
	r.must(err)
	fn(n)
	r.must(n.Close(context.Background()))
}

func (r *claimRig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// has requires the drive to be open, or refused with what to do.
func (r *claimRig) has(n *Node, want bool) {
	r.t.Helper()
	_, err := n.drives.set.Drive(r.id)
	if (err == nil) != want {
		r.t.Errorf("the drive is open: %t, want %t (%v)", err == nil, want, n.drives.why(r.id))
	}
	if why := n.drives.why(r.id); !want && (!errors.Is(why, fsapi.Busy) || !strings.Contains(why.Error(), "strake drive set nas --take-over")) {
		r.t.Errorf("it is refused so: %v", why)
	}
}

func (r *claimRig) owner() identity.Owner {
	r.t.Helper()
	o, err := dir.ReadOwner(osfs.OS{}, r.nas)
	r.must(err)
	return o
}

// marked has another incarnation of the store on the drive; zero: as a release wrote
// it that knew none.
func (r *claimRig) marked(i identity.Incarnation) {
	r.t.Helper()
	o := r.owner()
	o.Incarnation = i
	r.must(os.WriteFile(filepath.Join(r.nas, ".strake", "owner"), identity.AppendOwner(nil, o), 0o600))
}

// away has the drive away while fn runs.
func (r *claimRig) away(fn func()) {
	r.t.Helper()
	r.must(os.Rename(r.nas, r.nas+"-away"))
	fn()
	r.must(os.Rename(r.nas+"-away", r.nas))
}

// TestClaims: a drive is this store's as long as this was the last that marked it,
// however long it was away, and whatever a crash leaves.
func TestClaims(t *testing.T) {
	r := newClaimRig(t)
	first := r.owner().Incarnation
	if first == (identity.Incarnation{}) {
		t.Fatal("the drive was not marked")
	}
	r.away(func() {
		for range 2 {
			r.open(func(n *Node) {
				if _, err := n.drives.set.Drive(r.id); err == nil {
					t.Error("the drive is open, and away")
				}
			})
		}
	})
	if r.owner().Incarnation != first {
		t.Fatal("it was marked while it was away")
	}
	r.open(func(n *Node) {
		r.has(n, true)
		if got := r.owner().Incarnation; got != n.incarnation || got == first {
			t.Errorf("it is marked with %v", got)
		}
		// A crash between the record and the mark.
		r.must(n.drives.claiming(n.drives.recs[r.id], identity.NewIncarnation(), false)(t.Context(), r.owner()))
	})
	r.open(func(n *Node) { r.has(n, true) })

	// A copy was the last.
	r.marked(identity.NewIncarnation())
	copied := r.owner()
	r.open(func(n *Node) {
		r.has(n, false)
		if r.owner() != copied {
			t.Error("a drive that was refused is marked")
		}
		_, err := n.setDrive(t.Context(), api.DriveSet{Name: "nas", TakeOver: true})
		r.must(err)
		r.has(n, true)
		if got := r.owner().Incarnation; got == n.incarnation || got == copied.Incarnation {
			t.Errorf("it was taken over with an incarnation that the copy may know: %v", got)
		}
	})
	r.open(func(n *Node) { r.has(n, true) })

	// It is given away, and comes back.
	r.open(func(n *Node) {
		_, err := n.removeDrive(t.Context(), api.DriveRemove{Name: "nas"})
		r.must(err)
		if _, err := n.drives.claims.get(t.Context(), r.id); !errors.Is(err, fsapi.NotExist) {
			t.Errorf("the record of its claim: %v", err)
		}
	})
	r.open(func(n *Node) { r.has(n, true) })
}

// TestClaimOfOlderRelease: a drive without an incarnation is the store's that knows of
// none either, and not a copy's from then on that was made before.
func TestClaimOfOlderRelease(t *testing.T) {
	r := newClaimRig(t)
	older := func() {
		r.open(func(n *Node) { r.must(n.drives.claims.drop(t.Context(), r.id)) })
	}
	older()
	r.marked(identity.Incarnation{})
	r.open(func(n *Node) { r.has(n, true) })
	if r.owner().Incarnation == (identity.Incarnation{}) {
		t.Error("it was not marked")
	}
	r.open(func(n *Node) { r.has(n, true) })
	older()
	r.open(func(n *Node) { r.has(n, false) })
}

// TestClaimsOfRestored: metadata that was restored takes the drives over, those that
// are away when they come back; once.
func TestClaimsOfRestored(t *testing.T) {
	r := newClaimRig(t)
	restored := func() { r.open(func(n *Node) { r.must(disown(t.Context(), n.engine)) }) }
	restored()
	r.marked(identity.NewIncarnation())
	r.open(func(n *Node) {
		r.has(n, true)
		if !n.drives.restored {
			t.Error("the copies of the metadata go on")
		}
	})
	r.marked(identity.NewIncarnation())
	r.open(func(n *Node) { r.has(n, false) })

	restored()
	r.away(func() { r.open(func(*Node) {}) })
	r.marked(identity.NewIncarnation())
	r.open(func(n *Node) { r.has(n, true) })
	r.marked(identity.NewIncarnation())
	r.open(func(n *Node) {
		r.has(n, false)
		if n.drives.restored {
			t.Error("it is restored for ever")
		}
	})
}

// TestDecodeClaim: what is damaged or newer is no claim.
func TestDecodeClaim(t *testing.T) {
	good := `{"form":1,"now":"0123456789abcdef0123456789abcdef"}`
	if c, err := decodeClaim([]byte(good)); err != nil || !c.knows(identity.Incarnation{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}) || !c.knows(identity.Incarnation{}) || c.knows(identity.Incarnation{1}) {
		t.Errorf("%+v, %v", c, err)
	}
	for text, want := range map[string]fsapi.Kind{
		"": fsapi.Corrupt, `{"form":1,"now":"0123"}`: fsapi.Corrupt, `{"form":1,"was":"0123456789ABCDEF0123456789ABCDEF"}`: fsapi.Corrupt, `{"form":2}`: fsapi.NotSupported,
	} {
		if _, err := decodeClaim([]byte(text)); fsapi.KindOf(err) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestClaimedHistory: no copy of the metadata is begun on a drive that another took
// over, though other blobs may be for a while.
func TestClaimedHistory(t *testing.T) {
	r := newClaimRig(t)
	r.open(func(n *Node) {
		d, err := n.drives.set.Drive(r.id)
		r.must(err)
		w, err := d.Create(t.Context(), "meta/b/x", 0)
		r.must(err)
		w.Abort()
		r.marked(identity.NewIncarnation())
		if _, err := d.Create(t.Context(), "meta/b/x", 0); !errors.Is(err, fsapi.NoDevice) {
			t.Errorf("begun: %v", err)
		}
	})
}
