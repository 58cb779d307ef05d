package workload

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// node is an inode that a client made.
type node struct {
	ino      fsapi.Ino
	typ      fsapi.FileType
	mode     uint32
	target   string
	xattrs   map[string]string
	entries  map[string]*node
	parent   *node // of a directory
	name     string
	nlink    int
	opens    int
	trashed  bool
	versions []version // of a regular file, the first when it was made
}

// version is what a file held after an operation began.
type version struct {
	op   int  // that wrote it
	tied bool // it became stored in one step with the names the operation changed
	c    *content
}

func (n *node) now() *content { return n.versions[len(n.versions)-1].c }

// operation is what a client did, or is doing.
type operation struct {
	text         string
	issued, done int64 // tickets; done is 0 while it is under way

	// names is the namespace after it; nil: as before.
	names map[string]string
	// sync says that the operation is a barrier: for all files (syncAll), for
	// one, or (syncNames) for none. All names are covered by each.
	sync    syncKind
	syncIno fsapi.Ino
	// commits are versions that are stored for sure once a name changed later
	// is.
	commits map[fsapi.Ino]int
}

type syncKind uint8

const (
	syncNone syncKind = iota
	syncNames
	syncFile
	syncAll
)

// handle is a file that a client has open.
type handle struct {
	n     *node
	f     vfs.File
	flags vfs.OpenFlags
}

// Client does operations, one after another, on files of its own: those below
// its directory, and names that start with its own in one directory that all
// share. Only valid operations: an error is a failure.
type Client struct {
	ctx     context.Context
	fs      *vfs.Local
	id      int
	rng     *rand.Rand
	tickets *atomic.Int64
	o       Options
	// Tolerate says of an error that it is none of the file system's: the
	// operation must have done nothing then. nil: of none.
	Tolerate func(error) bool
	// MustRead: an error of a read is a failure whatever Tolerate says.
	MustRead bool
	// Calm clients change no names.
	Calm bool

	root, shared *node
	nodes        []*node // all ever made
	handles      []*handle
	first        map[string]string // names before the first operation
	ops          []*operation
	big          int
}

// Options of New.
type Options struct {
	ID   int // of the client, from 0 on
	Seed uint64
	// Shared is the directory SharedName in the root, which clients have in
	// common.
	Shared  fsapi.Ino
	Tickets *atomic.Int64 // those of all clients of a store
	Trash   bool          // the volume keeps what is deleted
}

// New makes a client with an empty directory. It works until ctx ends.
func New(ctx context.Context, fs *vfs.Local, o Options) (*Client, error) {
	c := &Client{ctx: ctx, fs: fs, id: o.ID, rng: rand.New(rand.NewPCG(o.Seed, uint64(o.ID))), tickets: o.Tickets, o: o}
	a, err := fs.Mknod(ctx, fsapi.Root, fsapi.RootIno, c.prefix(), vfs.NewNode{Type: fsapi.TypeDirectory, Mode: 0o755})
	if err != nil {
		return nil, err
	}
	c.root = &node{ino: a.Ino, typ: fsapi.TypeDirectory, entries: map[string]*node{}, nlink: 1}
	c.shared = &node{ino: o.Shared, typ: fsapi.TypeDirectory, entries: map[string]*node{}, nlink: 1}
	c.first = map[string]string{}
	return c, nil
}

func (c *Client) prefix() string { return fmt.Sprint("c", c.id) }

// begin starts an operation.
func (c *Client) begin(format string, args ...any) *operation {
	o := &operation{text: fmt.Sprintf(format, args...), issued: c.tickets.Add(1)}
	c.ops = append(c.ops, o)
	return o
}

// end ends it; changed says that names may have.
func (c *Client) end(o *operation, changed bool) {
	if changed {
		o.names = c.Names()
	}
	o.done = c.tickets.Add(1)
}

// wrote adds a version of a file, written by the operation that was begun last.
func (c *Client) wrote(n *node, v *content) {
	n.versions = append(n.versions, version{op: len(c.ops) - 1, c: v})
}

// unwrite takes back a version that did not come to be.
func (c *Client) unwrite(n *node) { n.versions = n.versions[:len(n.versions)-1] }

func (o *operation) commit(n *node) {
	if o.commits == nil {
		o.commits = map[fsapi.Ino]int{}
	}
	o.commits[n.ino] = len(n.versions) - 1
}

// Names describes everything of the client's that has a name, and the trash.
func (c *Client) Names() map[string]string {
	m := map[string]string{}
	describeTree(m, "", c.root)
	describeTree(m, "shared:", c.shared)
	for _, n := range c.nodes {
		if n.trashed {
			m[fmt.Sprint("trash:", n.ino)] = describe(n.ino, n.typ, n.mode, n.target, n.xattrs)
		}
	}
	return m
}

func describeTree(m map[string]string, at string, d *node) {
	for name, n := range d.entries {
		m[at+name] = describe(n.ino, n.typ, n.mode, n.target, n.xattrs)
		if n.typ == fsapi.TypeDirectory {
			describeTree(m, at+name+"/", n)
		}
	}
}

func describe(ino fsapi.Ino, typ fsapi.FileType, mode uint32, target string, xattrs map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "ino %d type %d mode %#o", ino, typ, mode)
	if target != "" {
		fmt.Fprintf(&b, " → %s", target)
	}
	for _, k := range slices.Sorted(maps.Keys(xattrs)) {
		fmt.Fprintf(&b, " %s=%d:%08x", k, len(xattrs[k]), crc32.ChecksumIEEE([]byte(xattrs[k])))
	}
	return b.String()
}

// Choices.

func (c *Client) chance(oneIn int) bool { return c.rng.IntN(oneIn) == 0 }

func pick[T any](r *rand.Rand, list []T) (v T) {
	if len(list) > 0 {
		v = list[r.IntN(len(list))]
	}
	return v
}

// dirs are the directories there are.
func (c *Client) dirs() []*node {
	list := []*node{c.root, c.shared}
	var walk func(d *node)
	walk = func(d *node) {
		for _, name := range slices.Sorted(maps.Keys(d.entries)) {
			if n := d.entries[name]; n.typ == fsapi.TypeDirectory {
				list = append(list, n)
				walk(n)
			}
		}
	}
	walk(c.root)
	walk(c.shared)
	return list
}

// place is a name in a directory, and what has it; nil: nobody.
type place struct {
	dir  *node
	name string
	n    *node
}

// places are all names of nodes that want accepts.
func (c *Client) places(want func(*node) bool) []place {
	var list []place
	for _, d := range c.dirs() {
		for _, name := range slices.Sorted(maps.Keys(d.entries)) {
			if n := d.entries[name]; want(n) {
				list = append(list, place{d, name, n})
			}
		}
	}
	return list
}

func isFile(n *node) bool { return n.typ == fsapi.TypeRegular }
func isDir(n *node) bool  { return n.typ == fsapi.TypeDirectory }
func notDir(n *node) bool { return n.typ != fsapi.TypeDirectory }
func anything(*node) bool { return true }

// somewhere chooses a name, in use or not.
func (c *Client) somewhere() place {
	d := pick(c.rng, c.dirs())
	name := fmt.Sprint("n", c.rng.IntN(8))
	if d == c.shared {
		name = c.prefix() + "-" + name
	}
	return place{d, name, d.entries[name]}
}

// free chooses a name that nobody has.
func (c *Client) free() place {
	for {
		p := c.somewhere()
		if p.n == nil {
			return p
		}
		p.name += fmt.Sprint(".", c.rng.IntN(1000))
		if p.dir.entries[p.name] == nil {
			p.n = nil
			return p
		}
	}
}

// path is a place from the volume's root.
func (c *Client) path(p place) string {
	parts := []string{p.name}
	for d := p.dir; ; d = d.parent {
		switch d {
		case c.root:
			return path.Join(append([]string{"/", c.prefix()}, parts...)...)
		case c.shared:
			return path.Join(append([]string{"/", SharedName}, parts...)...)
		}
		parts = append([]string{d.name}, parts...)
	}
}

// SharedName is the directory of all clients, in the root.
const SharedName = "shared"

// pool is bytes that clients have in common.
var pool = func() []byte {
	p := make([]byte, 256<<10)
	r := rand.New(rand.NewPCG(42, 42))
	for i := range p {
		p[i] = byte(r.Uint32()) | 1
	}
	return p
}()

// data makes n bytes: random, or repeating, or shared with others, or zeros.
func (c *Client) data(n int) []byte {
	switch c.rng.IntN(10) {
	case 0:
		return make([]byte, n)
	case 1, 2:
		return bytes.Repeat(fmt.Appendf(nil, "%d of client %d, ", len(c.ops), c.id), n/8+1)[:n]
	case 3, 4, 5:
		if n <= len(pool) {
			from := c.rng.IntN((len(pool)-n)/pageSize+1) * pageSize
			return slices.Clone(pool[from : from+n])
		}
	}
	p := make([]byte, n+8)
	for i := 0; i < n; i += 8 {
		v := c.rng.Uint64()
		for k := range 8 {
			p[i+k] = byte(v >> (8 * k))
		}
	}
	return p[:n]
}

// length chooses how many bytes: mostly few.
func (c *Client) length() int {
	switch c.rng.IntN(8) {
	case 0, 1:
		return 1 + c.rng.IntN(100)
	case 2, 3, 4:
		return 1 + c.rng.IntN(6000)
	case 5, 6:
		return 4096 * (1 + c.rng.IntN(8))
	}
	return 1 + c.rng.IntN(120_000)
}

const maxOffset = 400_000

// offset chooses where in a file.
func (c *Client) offset(size int64) int64 {
	size = min(size, maxOffset)
	switch c.rng.IntN(6) {
	case 0:
		return 0
	case 1:
		return size
	case 2:
		return size + c.rng.Int64N(9000)
	case 3:
		return c.rng.Int64N(40) * 4096
	}
	return c.rng.Int64N(size + 1)
}
