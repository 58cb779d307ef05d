package meta

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/policy"
)

func TestVolumesByNameAndNumber(t *testing.T) {
	f, ctx := newFixture(t), context.Background()
	v, err := f.s.CreateVolume(ctx, Volume{Name: "two", Encrypted: true, Policy: policy.Policy{Compression: "zstd-3"}})
	if err != nil {
		t.Fatal(err)
	}
	if v.ID != 2 || v.Policy.Ack != policy.AckLocal || v.Policy.Compression != "zstd-3" {
		t.Errorf("created %+v", v)
	}
	if _, err := f.s.CreateVolume(ctx, Volume{Name: "two"}); !errors.Is(err, fsapi.Exist) {
		t.Errorf("second volume of the name: %v", err)
	}
	v.Name, v.Quota = "deux", Quota{Bytes: 5, Inodes: 6}
	if err := f.s.SetVolume(ctx, v); err != nil {
		t.Fatal(err)
	}
	if _, err := f.s.VolumeByName(ctx, "two"); !errors.Is(err, fsapi.NotExist) {
		t.Errorf("the old name: %v", err)
	}
	got, err := f.s.VolumeByName(ctx, "deux")
	if err != nil || !cmp.Equal(v, got) {
		t.Errorf("read back %v: %s", err, cmp.Diff(v, got))
	}
	list, err := f.s.Volumes(ctx)
	if err != nil || len(list) != 2 {
		t.Errorf("volumes: %v, %v", list, err)
	}
}

func TestDeletedVolumeLeavesNothing(t *testing.T) {
	f, ctx := newFixture(t), context.Background()
	f.furnish()
	if _, err := f.s.ReclaimVolume(ctx, f.vol, 10); !errors.Is(err, fsapi.Busy) {
		t.Errorf("reclaim of a volume in use: %v", err)
	}
	f.clock.t = f.clock.t.Add(2 * time.Hour) // nothing is under retention any more
	if err := f.s.DeleteVolume(ctx, f.vol); err != nil {
		t.Fatal(err)
	}
	if err := f.try(func(*Tx) error { return nil }); !errors.Is(err, fsapi.NotExist) {
		t.Errorf("update of a deleted volume: %v", err)
	}
	steps := 0
	for more := true; more; steps++ {
		var err error
		if more, err = f.s.ReclaimVolume(ctx, f.vol, 5); err != nil {
			t.Fatal(err)
		}
	}
	if steps < 3 {
		t.Errorf("reclaimed in %d steps of 5 records", steps)
	}
	keys, _ := f.records()
	for _, k := range keys {
		if k[0] == tabSegment {
			continue
		}
		n := int64(1)
		if k[0] == tabLive {
			n = f.live(k)
		}
		if n != 0 {
			t.Errorf("left: %s", keyText(k))
		}
	}
	if _, err := f.s.Volume(ctx, f.vol); !errors.Is(err, fsapi.NotExist) {
		t.Errorf("the volume: %v", err)
	}
}

func (f *fixture) live(k []byte) (n int64) {
	f.t.Helper()
	if err := f.e.View(context.Background(), func(r kv.Reader) (err error) {
		n, err = r.Counter(k)
		return err
	}); err != nil {
		f.t.Fatal(err)
	}
	return n
}

func TestNumbersAreNeverReusedByALaterStore(t *testing.T) {
	f, ctx := newFixture(t), context.Background()
	first := f.make(fsapi.RootIno, "a", fsapi.TypeRegular)
	s, err := Open(ctx, f.e, Options{Clock: f.clock})
	if err != nil {
		t.Fatal(err)
	}
	f.s = s
	if second := f.make(fsapi.RootIno, "b", fsapi.TypeRegular); second < first+numberBlock {
		t.Errorf("inode %d after %d: a crash could have used numbers up to the reserved block's end", second, first)
	}
	n, err := s.NewIno(ctx, f.vol)
	if err != nil || n <= first {
		t.Errorf("new number %d, %v", n, err)
	}
}

func TestTransactionMayTakeMoreNumbersThanReserved(t *testing.T) {
	f := newFixture(t)
	const n = numberBlock/2 + 1000 // each takes two
	f.do(func(tx *Tx) error {
		root, err := tx.Inode(fsapi.RootIno)
		for i := 0; i < n && err == nil; i++ {
			_, err = tx.Create(root, "f"+utoa(uint64(i)), NewInode{Type: fsapi.TypeFIFO})
		}
		return err
	})
	f.clean()
}

func TestNewerFormatIsRefused(t *testing.T) {
	f := newFixture(t)
	f.raw(func(w kv.Tx) { w.Put([]byte{tabFormat}, putUint([]byte(formatMagic), formatVersion+1)) })
	_, err := Open(context.Background(), f.e, Options{})
	if !errors.Is(err, fsapi.NotSupported) || !strings.Contains(err.Error(), "newer") {
		t.Errorf("open of a newer store: %v", err)
	}
}

func TestEffectivePolicyFollowsTheTree(t *testing.T) {
	f, ctx := newFixture(t), context.Background()
	d := f.make(fsapi.RootIno, "d", fsapi.TypeDirectory)
	e := f.make(d, "e", fsapi.TypeDirectory)
	a := f.make(e, "a", fsapi.TypeRegular)
	effective := func() (p policy.Policy) {
		f.view(func(tx *Tx) error {
			in, err := tx.Inode(a)
			if err != nil {
				return err
			}
			p, err = tx.EffectivePolicy(in)
			return err
		})
		return p
	}
	set := func(ino fsapi.Ino, p policy.Policy) {
		f.do(func(tx *Tx) error {
			in, err := tx.Inode(ino)
			if err != nil {
				return err
			}
			return tx.SetPolicy(in, p)
		})
	}
	if diff := cmp.Diff(policy.Default(), effective()); diff != "" {
		t.Error(diff)
	}
	set(d, policy.Policy{Ack: policy.AckAsync, Compression: "s2"})
	set(a, policy.Policy{Compression: "none"})
	if p := effective(); p.Ack != policy.AckAsync || p.Compression != "none" || p.Trash != 24*time.Hour {
		t.Errorf("inherited %+v", p)
	}
	set(d, policy.Policy{Ack: policy.AckRemote})
	if p := effective(); p.Ack != policy.AckRemote {
		t.Errorf("after a change above: %+v", p)
	}
	f.do(func(tx *Tx) error {
		from, _ := tx.Inode(d)
		root, _ := tx.Inode(fsapi.RootIno)
		in, _ := tx.Inode(e)
		return tx.Rename(from, "e", in, root, "e", nil, false, KeepNone)
	})
	if p := effective(); p.Ack != policy.AckLocal {
		t.Errorf("after moving away: %+v", p)
	}
	v, err := f.s.Volume(ctx, f.vol)
	if err != nil {
		t.Fatal(err)
	}
	v.Policy.Ack = policy.AckAsync
	if err := f.s.SetVolume(ctx, v); err != nil {
		t.Fatal(err)
	}
	if p := effective(); p.Ack != policy.AckAsync {
		t.Errorf("after the volume's policy changed: %+v", p)
	}
	set(a, policy.Policy{})
	f.clean()
}

func TestChangesTravelWithTheBatch(t *testing.T) {
	f, ctx := newFixture(t), context.Background()
	tail, err := f.e.Tail(f.e.LastSeq() + 1)
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Close()
	// Numbers are reserved in a batch of their own.
	if _, err := f.s.NewIno(ctx, f.vol); err != nil {
		t.Fatal(err)
	}
	var ino fsapi.Ino
	f.do(func(tx *Tx) error {
		tx.SetDoor("fuse")
		root, _ := tx.Inode(fsapi.RootIno)
		in, err := tx.Create(root, "a", NewInode{Type: fsapi.TypeRegular})
		if err != nil {
			return err
		}
		ino = in.Ino
		tx.Note(fsapi.Change{Kind: fsapi.ChangeContent, Ino: ino, Off: 5, Len: -1, Door: "nfs"})
		return tx.Rename(root, "a", in, root, "b", nil, false, KeepNone)
	})
	want := []fsapi.Change{
		{Kind: fsapi.ChangeCreate, Volume: f.vol, Ino: ino, Dir: 1, Name: "a", Type: fsapi.TypeRegular, Door: "fuse"},
		{Kind: fsapi.ChangeContent, Volume: f.vol, Ino: ino, Off: 5, Len: -1, Door: "nfs"},
		{Kind: fsapi.ChangeRename, Volume: f.vol, Ino: ino, Dir: 1, Name: "b", FromDir: 1, From: "a", Type: fsapi.TypeRegular, Door: "fuse"},
	}
	for {
		b, err := tail.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Changes(b)
		if err != nil {
			t.Fatal(err)
		}
		if got == nil {
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		return
	}
}

func TestDrivesAndSettings(t *testing.T) {
	f, ctx := newFixture(t), context.Background()
	d := DriveRecord{ID: 9, Name: "disk", Kind: "dir", Where: "/srv", Tier: "hot", Domain: "a", State: "up", Reserve: 1 << 30}
	if err := f.s.PutDrive(ctx, d); err != nil {
		t.Fatal(err)
	}
	if err := f.s.PutDrive(ctx, DriveRecord{ID: 7, Name: "disk"}); !errors.Is(err, fsapi.Exist) {
		t.Errorf("second drive of the name: %v", err)
	}
	if err := f.s.PutDrive(ctx, DriveRecord{ID: 7, Name: "used"}); err != nil {
		t.Fatal(err)
	}
	f.write(f.make(fsapi.RootIno, "a", fsapi.TypeRegular), 0, 10, 1) // on drive 7
	if err := f.s.DeleteDrive(ctx, 7); !errors.Is(err, fsapi.Busy) {
		t.Errorf("delete of a drive in use: %v", err)
	}
	list, err := f.s.Drives(ctx)
	if err != nil || len(list) != 2 || list[1] != d {
		t.Errorf("drives: %+v, %v", list, err)
	}
	if err := f.s.DeleteDrive(ctx, 9); err != nil {
		t.Error(err)
	}
	if err := f.s.PutSetting(ctx, "token/a", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if v, err := f.s.Setting(ctx, "token/a"); err != nil || string(v) != "x" {
		t.Errorf("setting: %q, %v", v, err)
	}
	if err := f.s.PutSetting(ctx, "zz", nil); err != nil {
		t.Fatal(err)
	}
	var names []string
	if err := f.s.Settings(ctx, "token/", func(n string, _ []byte) bool { names = append(names, n); return true }); err != nil || len(names) != 1 {
		t.Errorf("settings: %v, %v", names, err)
	}
	if err := f.s.DeleteSetting(ctx, "token/a"); err != nil {
		t.Error(err)
	}
	if _, err := f.s.Setting(ctx, "token/a"); !errors.Is(err, fsapi.NotExist) {
		t.Errorf("deleted setting: %v", err)
	}
}
