package history

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/internal/vfs"
	"github.com/strakefs/strake/internal/vfs/model"
)

// The sides of a comparison.
const (
	oracle  = 0
	subject = 1
)

// node is an inode on both sides.
type node struct {
	id     int // number in messages; the root is 0
	ino    [2]fsapi.Ino
	change [2]uint64 // when last seen
	typ    fsapi.FileType
	// holes says that bytes which are zero were written: whether they take
	// space is up to each side.
	holes bool
	// prealloc says that space was: a copy may take as much or none.
	prealloc bool
}

// handle is an open file on both sides.
type handle struct {
	n     *node
	f     [2]vfs.File
	flags vfs.OpenFlags
}

// world is a volume on both sides with what a history knows of it.
type world struct {
	ctx   context.Context
	fs    [2]vfs.FS
	under [2]string // path of the root within the volume, for batches

	nodes   []*node
	byIno   [2]map[fsapi.Ino]*node
	handles []*handle

	// drop, upkeep and restart act on the real side; nil: it cannot.
	drop    func() error
	upkeep  func(n uint32) error
	restart func() (vfs.FS, error)
	check   func() error

	trace []string // of what was done, newest last
}

// newWorld compares a new model with fs below root.
func newWorld(ctx context.Context, fs vfs.FS, root fsapi.Ino, under string, atime policy.Atime) *world {
	w := &world{ctx: ctx, fs: [2]vfs.FS{model.New(model.Options{Atime: atime}), fs}, under: [2]string{"", under}}
	w.byIno = [2]map[fsapi.Ino]*node{{}, {}}
	w.learn([2]fsapi.Ino{fsapi.RootIno, root}, fsapi.TypeDirectory)
	return w
}

// learn makes a node known.
func (w *world) learn(ino [2]fsapi.Ino, t fsapi.FileType) *node {
	n := &node{id: len(w.nodes), ino: ino, typ: t}
	w.nodes = append(w.nodes, n)
	for s := range ino {
		w.byIno[s][ino[s]] = n
	}
	return n
}

// result is what a call on one side answered.
type result struct {
	err   error
	attrs []fsapi.Attr
	file  vfs.File
	text  string // everything else, comparable
}

// mismatch is a difference between the sides.
type mismatch struct {
	what string
}

func (m *mismatch) Error() string { return m.what }

func differ(format string, args ...any) error { return &mismatch{fmt.Sprintf(format, args...)} }

// both makes a call on both sides and compares what they answer.
func (w *world) both(what string, call func(side int) result) ([2]result, error) {
	var r [2]result
	for side := range r {
		r[side] = call(side)
	}
	if what != "fstat" || r[oracle].err != nil {
		w.trace = append(w.trace, what+outcome(r[oracle]))
	}
	return r, w.compare(what, &r)
}

func outcome(r result) string {
	if r.err != nil {
		return " → " + fsapi.KindOf(r.err).Error()
	}
	return ""
}

func (w *world) compare(what string, r *[2]result) error {
	m, f := r[oracle], r[subject]
	switch {
	case (m.err == nil) != (f.err == nil), m.err != nil && fsapi.KindOf(m.err) != fsapi.KindOf(f.err):
		return differ("%s: the model answers %s, the file system %s", what, errText(m.err), errText(f.err))
	case m.err != nil:
		return nil
	case m.text != f.text:
		return differ("%s: the model answers %s, the file system %s", what, short(m.text, f.text), short(f.text, m.text))
	case len(m.attrs) != len(f.attrs):
		return differ("%s: %d and %d attributes", what, len(m.attrs), len(f.attrs))
	}
	for i := range m.attrs {
		if err := w.compareAttr(what, m.attrs[i], f.attrs[i], false); err != nil {
			return err
		}
	}
	return nil
}

func errText(err error) string {
	if err == nil {
		return "success"
	}
	return fmt.Sprintf("%q (%v)", fsapi.KindOf(err), err)
}

// short is a with a bit around where it begins to differ from b.
func short(a, b string) string {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	from, to := max(0, i-40), min(len(a), i+40)
	return fmt.Sprintf("%d bytes, from %d on %.200q", len(a), from, a[from:to])
}

// compareAttr compares attributes, and learns the inode where it is new. used
// compares Used, which is exact only when everything is stored.
func (w *world) compareAttr(what string, m, f fsapi.Attr, used bool) error {
	n, n2 := w.byIno[oracle][m.Ino], w.byIno[subject][f.Ino]
	if n == nil && n2 == nil {
		n = w.learn([2]fsapi.Ino{m.Ino, f.Ino}, m.Type)
		n2 = n
	}
	if n != n2 {
		return differ("%s: the model answers inode %d, the file system %d, which are not one", what, m.Ino, f.Ino)
	}
	a, b := attrText(m), attrText(f)
	if a != b {
		return differ("%s: attributes of #%d are %s in the model, %s in the file system", what, n.id, a, b)
	}
	if used && !n.holes && m.Type == fsapi.TypeRegular && m.Used != f.Used {
		return differ("%s: #%d uses %d bytes in the model, %d in the file system", what, n.id, m.Used, f.Used)
	}
	return w.compareChange(what, n, m.Change, f.Change)
}

// compareChange wants Change to have grown where the model's did.
func (w *world) compareChange(what string, n *node, m, f uint64) error {
	was := n.change
	n.change = [2]uint64{m, f}
	switch {
	case was[subject] == 0:
		return nil
	case f < was[subject]:
		return differ("%s: Change of #%d went back from %d to %d", what, n.id, was[subject], f)
	case m > was[oracle] && f == was[subject]:
		return differ("%s: Change of #%d stays at %d although it changed", what, n.id, f)
	}
	return nil
}

// attrText is what must be equal: a time only where it was set by somebody,
// which histories do to long ago. Directories' sizes are up to each side, and a
// history looks into those of the model to choose names.
func attrText(a fsapi.Attr) string {
	size := a.Size
	if a.Type == fsapi.TypeDirectory {
		size, a.Atime = 0, time.Now()
	}
	return fmt.Sprintf("type %d mode %#o owner %d:%d links %d rdev %d size %d times %s %s %s", a.Type, a.Mode, a.Uid, a.Gid,
		a.Nlink, a.Rdev, size, old(a.Atime), old(a.Mtime), old(a.Ctime))
}

func old(t time.Time) string {
	if t.Year() < 2001 {
		return t.UTC().Format(time.RFC3339Nano)
	}
	return "recent"
}

// pick chooses one of list, or the zero value where there is none.
func pick[T any](list []T, r uint32) (v T) {
	if len(list) > 0 {
		v = list[int(r)%len(list)]
	}
	return v
}

// alive are the nodes of a type that the model still has; 0 is any type.
func (w *world) alive(t fsapi.FileType) []*node {
	var list []*node
	for _, n := range w.nodes {
		if t != 0 && n.typ != t {
			continue
		}
		if _, err := w.fs[oracle].Getattr(w.ctx, n.ino[oracle]); err == nil {
			list = append(list, n)
		}
	}
	return list
}

// dir chooses a directory, seldom something else.
func (w *world) dir(r uint32) *node {
	if r%50 == 49 {
		return w.any(r / 50)
	}
	return pick(w.alive(fsapi.TypeDirectory), r/50)
}

// any chooses an inode.
func (w *world) any(r uint32) *node { return pick(w.alive(0), r) }

// regular chooses a regular file, seldom something else.
func (w *world) regular(r uint32) *node {
	if files := w.alive(fsapi.TypeRegular); r%20 != 19 && len(files) > 0 {
		return pick(files, r/20)
	}
	return w.any(r / 20)
}

// name chooses a name: one of few, so that they meet, or one that exists.
func (w *world) name(d *node, r uint32) string {
	if r%3 == 0 {
		if names := w.names(d); len(names) > 0 {
			return pick(names, r/3)
		}
	}
	if r%101 == 100 {
		return pick([]string{"", ".", "..", "a/b", "x\x00", strings.Repeat("l", 256)}, r/101)
	}
	return pick([]string{"a", "b", "c", "d", "e", "f", "\xff\xfe", strings.Repeat("n", 255)}, r/3)
}

// names are those in a directory of the model, sorted.
func (w *world) names(d *node) []string {
	h, err := w.fs[oracle].OpenDir(w.ctx, fsapi.Root, d.ino[oracle])
	if err != nil {
		return nil
	}
	defer h.Close()
	var names []string
	_ = h.Read(w.ctx, 2, false, func(e fsapi.Dirent) bool { names = append(names, e.Name); return true })
	return names
}

// cred chooses who asks: mostly root, who gets furthest.
func cred(r uint32) *fsapi.Cred {
	switch r % 10 {
	case 7:
		return &fsapi.Cred{Uid: 1000, Gid: 1000, Groups: []uint32{50}}
	case 8:
		return &fsapi.Cred{Uid: 1001, Gid: 1001, Groups: []uint32{7, 50}}
	case 9:
		return &fsapi.Cred{Uid: 1000, Gid: 1000, Checked: true}
	}
	return fsapi.Root
}

// bytesOf is n bytes that are never zero, of one of few contents, so that
// chunks repeat.
func bytesOf(n int, r uint32) []byte {
	p := make([]byte, n)
	x := r % 6
	shift := int(r / 6 % 3 * 1000)
	if x == 0 {
		for i := range p {
			p[i] = byte((i+shift)/97%250 + 1)
		}
		return p
	}
	for i := range p {
		v := uint32(i+shift)*2654435761 ^ x*0x9e3779b9
		v ^= v >> 15
		p[i] = byte(v*0x85ebca6b>>24)%255 + 1
	}
	return p
}

// size chooses a length in bytes: mostly small.
func size(r uint32) int {
	switch r % 16 {
	case 0, 1, 2, 3:
		return int(r/16%100) + 1
	case 4, 5, 6, 7, 8:
		return int(r / 16 % 5000)
	case 9, 10, 11:
		return 4096 * int(r/16%9)
	case 12, 13, 14:
		return int(r / 16 % 40_000)
	}
	return int(r / 16 % 200_000)
}

// offset chooses where in a file of a size: around its bounds, seldom far off.
func offset(r uint32, size int64) int64 {
	switch r % 16 {
	case 0:
		return 0
	case 1, 2:
		return size
	case 3:
		return size + int64(r/16%10_000)
	case 4, 5:
		return int64(r/16%40) * 4096
	case 6:
		if r%5 == 0 {
			return 1<<40 + int64(r/16%10_000)
		}
	}
	if size <= 0 {
		return int64(r / 16 % 3000)
	}
	return int64(r/16) % size
}
