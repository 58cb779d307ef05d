package vfstest

import (
	"context"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/internal/vfs"
)

// Retainer is an FS that can keep files from being changed.
type Retainer interface {
	vfs.FS
	Retention(ctx context.Context, ino fsapi.Ino) (policy.Retained, error)
	SetRetention(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, r policy.Retained, override bool) error
}

// RunRetention runs the cases about retention, each on what open returns, as
// Run does.
func RunRetention(t *testing.T, open func(t *testing.T) Retainer, caps Caps) {
	for _, tc := range []struct {
		name string
		run  func(e *keepEnv)
	}{
		{"every change is refused", keepRefuses},
		{"an open handle is refused", keepOpenHandle},
		{"what may still be done", keepAllows},
		{"only grows", keepGrows},
		{"legal hold", keepHold},
		{"as an attribute", keepXattr},
		{"read-only commits", keepCommits},
		{"who may", keepWho},
		{"files only", keepFiles},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if why := caps.Skip[tc.name]; why != "" {
				t.Skip(why)
			}
			fs := open(t)
			tc.run(&keepEnv{newEnv(t, fs, caps), fs})
		})
	}
}

type keepEnv struct {
	*env
	keep Retainer
}

// until is retention for some hours from now.
func until(mode policy.RetentionMode, hours int) policy.Retained {
	return policy.Retained{Mode: mode, Until: time.Now().Add(time.Duration(hours) * time.Hour).UTC().Truncate(time.Second)}
}

// kept makes a file under retention in a directory of its own.
func (e *keepEnv) kept(r policy.Retained) (dir, ino fsapi.Ino) {
	e.Helper()
	dir = e.dir(root, "d", 0o777)
	ino = e.file(dir, "f", 0o644)
	e.put(ino, []byte("content"))
	e.ok(e.fs.Setxattr(e.ctx, fsapi.Root, ino, "user.a", []byte("b"), 0))
	e.ok(e.keep.SetRetention(e.ctx, fsapi.Root, ino, r, false))
	return dir, ino
}

func keepRefuses(e *keepEnv) {
	d, f := e.kept(until(policy.Compliance, 1))
	other := e.file(d, "other", 0o644)
	open := func(flags vfs.OpenFlags) error {
		h, err := e.fs.Open(e.ctx, fsapi.Root, f, flags)
		if err == nil {
			_ = h.Close()
		}
		return err
	}
	batch := func(op vfs.Op) error {
		_, err := e.fs.Batch(e.ctx, fsapi.Root, []vfs.Op{op})
		return err
	}
	now := time.Now()
	for name, err := range map[string]error{
		"open to write":      open(rw),
		"open to truncate":   open(vfs.OpenRead | vfs.OpenTrunc),
		"open to append":     open(vfs.OpenWrite | vfs.OpenAppend),
		"truncate":           e.truncate(fsapi.Root, f, 0),
		"extend":             e.truncate(fsapi.Root, f, 100),
		"chmod":              e.chmod(fsapi.Root, f, 0o600),
		"chown":              e.chown(fsapi.Root, f, 1, 1),
		"mtime":              second(e.fs.Setattr(e.ctx, fsapi.Root, f, vfs.SetAttr{Mtime: &now})),
		"setxattr":           e.fs.Setxattr(e.ctx, fsapi.Root, f, "user.a", []byte("c"), 0),
		"removexattr":        e.fs.Removexattr(e.ctx, fsapi.Root, f, "user.a"),
		"policy":             e.fs.Setxattr(e.ctx, fsapi.Root, f, vfs.PolicyXattr, []byte("ack=async"), 0),
		"link":               second(e.fs.Link(e.ctx, fsapi.Root, f, d, "g")),
		"unlink":             e.fs.Unlink(e.ctx, fsapi.Root, d, "f"),
		"rename":             e.rename(d, "f", d, "g", 0),
		"rename over":        e.rename(d, "other", d, "f", 0),
		"exchange":           e.rename(d, "other", d, "f", vfs.RenameExchange),
		"exchange from":      e.rename(d, "f", d, "other", vfs.RenameExchange),
		"batch put":          batch(put("d/f", "new")),
		"batch remove":       batch(vfs.Op{Kind: vfs.OpRemove, Path: "d/f"}),
		"batch rename":       batch(vfs.Op{Kind: vfs.OpRename, Path: "d/f", To: "d/g"}),
		"batch rename over":  batch(vfs.Op{Kind: vfs.OpRename, Path: "d/other", To: "d/f"}),
		"batch link":         batch(vfs.Op{Kind: vfs.OpLink, Path: "d/f", To: "d/g"}),
		"batch mode":         batch(vfs.Op{Kind: vfs.OpSetattr, Path: "d/f", Set: vfs.SetAttr{Mode: at[uint32](0o600)}}),
		"batch size":         batch(vfs.Op{Kind: vfs.OpSetattr, Path: "d/f", Set: vfs.SetAttr{Size: at[int64](0)}}),
		"the directory":      notEmpty(e.fs.Rmdir(e.ctx, fsapi.Root, root, "d")),
		"batch of directory": notEmpty(batch(vfs.Op{Kind: vfs.OpRemove, Path: "d"})),
	} {
		if err == nil || fsapi.KindOf(err) != fsapi.Immutable {
			e.Errorf("%s: %v", name, err)
		}
	}
	e.equal("names", e.names(d), []string{"f", "other"})
	e.holds(f, []byte("content"))
	e.equal("the other", e.lookup(d, "other"), other)
}

// second is the error of a call that gives something else, too.
func second[T any](_ T, err error) error { return err }

// notEmpty takes fsapi.NotEmpty for the refusal that it is.
func notEmpty(err error) error {
	if err != nil && fsapi.KindOf(err) == fsapi.NotEmpty {
		return fsapi.Immutable
	}
	return err
}

func keepOpenHandle(e *keepEnv) {
	f := e.file(root, "f", 0o644)
	h := e.open(f, rw)
	e.write(h, []byte("before"), 0)
	e.ok(e.keep.SetRetention(e.ctx, fsapi.Root, f, until(policy.Compliance, 1), false))
	_, err := h.WriteAt(e.ctx, []byte("after"), 0)
	e.fails(fsapi.Immutable, err)
	e.fails(fsapi.Immutable, h.Truncate(e.ctx, 0))
	for _, mode := range []vfs.AllocMode{0, vfs.AllocPunch | vfs.AllocKeepSize, vfs.AllocZero} {
		e.fails(fsapi.Immutable, h.Allocate(e.ctx, mode, 0, 4096))
	}
	src := e.open(e.file(root, "src", 0o644), rw)
	e.write(src, []byte("other"), 0)
	_, err = src.CopyRange(e.ctx, 0, h, 0, 5)
	e.fails(fsapi.Immutable, err)
	e.ok(h.Sync(e.ctx, false))
	e.holds(f, []byte("before"))
}

func keepAllows(e *keepEnv) {
	d, f := e.kept(until(policy.Compliance, 1))
	now := time.Now()
	_, err := e.fs.Setattr(e.ctx, fsapi.Root, f, vfs.SetAttr{Atime: &now})
	e.ok(err)
	e.open(f, vfs.OpenRead)
	e.ok(e.rename(root, "d", root, "moved", 0))
	e.file(d, "beside", 0o644)
	to := e.open(e.file(root, "copy", 0o644), rw)
	n, err := e.open(f, vfs.OpenRead).CopyRange(e.ctx, 0, to, 0, 100)
	e.ok(err)
	e.equal("bytes", n, int64(7))
	e.put(to.Ino(), []byte("a copy is not under retention"))
}

func keepGrows(e *keepEnv) {
	_, f := e.kept(until(policy.Governance, 2))
	set := func(r policy.Retained, override bool) error {
		return e.keep.SetRetention(e.ctx, fsapi.Root, f, r, override)
	}
	e.ok(set(until(policy.Governance, 3), false))
	e.fails(fsapi.Immutable, set(until(policy.Governance, 1), false))
	e.fails(fsapi.Immutable, set(policy.Retained{}, false))
	e.ok(set(until(policy.Governance, 1), true))
	e.ok(set(policy.Retained{}, true))
	e.put(f, []byte("free"))
	e.ok(set(until(policy.Compliance, 2), false))
	e.fails(fsapi.Immutable, set(until(policy.Compliance, 1), true))
	e.fails(fsapi.Immutable, set(policy.Retained{}, true))
	e.fails(fsapi.Immutable, set(until(policy.Governance, 9), true))
	e.ok(set(until(policy.Compliance, 3), false))
}

func keepHold(e *keepEnv) {
	d, f := e.kept(policy.Retained{Hold: true})
	e.fails(fsapi.Immutable, e.fs.Unlink(e.ctx, fsapi.Root, d, "f"))
	r, err := e.keep.Retention(e.ctx, f)
	e.ok(err)
	e.equal("retention", r, policy.Retained{Hold: true})
	e.ok(e.keep.SetRetention(e.ctx, fsapi.Root, f, policy.Retained{}, false))
	e.ok(e.fs.Unlink(e.ctx, fsapi.Root, d, "f"))
}

func keepXattr(e *keepEnv) {
	f := e.file(root, "f", 0o644)
	_, err := e.fs.Getxattr(e.ctx, fsapi.Root, f, vfs.RetentionXattr)
	e.fails(fsapi.NoAttr, err)
	want := until(policy.Governance, 1)
	e.fails(fsapi.Invalid, e.fs.Setxattr(e.ctx, fsapi.Root, f, vfs.RetentionXattr, []byte("for ever"), 0))
	e.ok(e.fs.Setxattr(e.ctx, fsapi.Root, f, vfs.RetentionXattr, []byte(want.String()), 0))
	v, err := e.fs.Getxattr(e.ctx, fsapi.Root, f, vfs.RetentionXattr)
	e.ok(err)
	e.equal("value", string(v), want.String())
	names, err := e.fs.Listxattr(e.ctx, fsapi.Root, f)
	e.ok(err)
	e.equal("names", names, []string{vfs.RetentionXattr})
	e.fails(fsapi.Immutable, e.fs.Removexattr(e.ctx, fsapi.Root, f, vfs.RetentionXattr))
	e.fails(fsapi.Immutable, e.truncate(fsapi.Root, f, 1))
	e.ok(e.keep.SetRetention(e.ctx, fsapi.Root, f, policy.Retained{}, true))
	_, err = e.fs.Getxattr(e.ctx, fsapi.Root, f, vfs.RetentionXattr)
	e.fails(fsapi.NoAttr, err)
	e.ok(e.truncate(fsapi.Root, f, 1))
}

func keepCommits(e *keepEnv) {
	d := e.dir(root, "d", 0o777)
	e.ok(e.fs.Setxattr(e.ctx, fsapi.Root, d, vfs.PolicyXattr, []byte("retention=compliance:24h"), 0))
	f := e.fileOf(alice(), d, "f", 0o644)
	e.put(f, []byte("1"))
	e.put(f, []byte("2")) // as long as it is not committed
	e.ok(e.chmod(alice(), f, 0o444))
	r, err := e.keep.Retention(e.ctx, f)
	e.ok(err)
	e.equal("mode", r.Mode, policy.Compliance)
	if left := time.Until(r.Until); left < 23*time.Hour || left > 25*time.Hour {
		e.Errorf("retained for %v", left)
	}
	e.fails(fsapi.Immutable, e.chmod(fsapi.Root, f, 0o644))
	e.fails(fsapi.Immutable, e.fs.Unlink(e.ctx, alice(), d, "f"))
	e.batch(put("d/g", "x"), vfs.Op{Kind: vfs.OpSetattr, Path: "d/g", Set: vfs.SetAttr{Mode: at[uint32](0o400)}})
	e.batchFails(fsapi.Immutable, vfs.Op{Kind: vfs.OpRemove, Path: "d/g"})
	free := e.file(root, "free", 0o644)
	e.ok(e.chmod(fsapi.Root, free, 0o444))
	e.ok(e.chmod(fsapi.Root, free, 0o644))
}

func keepWho(e *keepEnv) {
	f := e.fileOf(alice(), e.dir(root, "d", 0o777), "f", 0o666)
	set := func(c *fsapi.Cred, r policy.Retained, override bool) error {
		return e.keep.SetRetention(e.ctx, c, f, r, override)
	}
	e.fails(fsapi.NotPermitted, set(bob(), until(policy.Governance, 1), false))
	e.fails(fsapi.NotPermitted, set(alice(), policy.Retained{Hold: true}, false))
	e.ok(set(alice(), until(policy.Governance, 1), false))
	e.fails(fsapi.NotPermitted, set(alice(), policy.Retained{}, true))
	e.ok(set(fsapi.Root, policy.Retained{}, true))
}

func keepFiles(e *keepEnv) {
	d, l := e.dir(root, "d", 0o777), e.symlink(root, "l", "x")
	for _, ino := range []fsapi.Ino{d, l} {
		e.fails(fsapi.Invalid, e.keep.SetRetention(e.ctx, fsapi.Root, ino, until(policy.Governance, 1), false))
	}
}
