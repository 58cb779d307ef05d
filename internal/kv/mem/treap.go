package mem

import "bytes"

// node is an immutable treap (Seidel, Aragon: "Randomized Search Trees", 1996):
// ordered by key, a heap by rank, which is a hash of the key. A change copies
// the path from the root, so that whoever holds an older root keeps an older
// map. The nil node is the empty map.
type node struct {
	key, value  []byte
	rank        uint64
	left, right *node
}

func (n *node) get(key []byte) ([]byte, bool) {
	for n != nil {
		switch c := bytes.Compare(key, n.key); {
		case c < 0:
			n = n.left
		case c > 0:
			n = n.right
		default:
			return n.value, true
		}
	}
	return nil, false
}

// with is n with the key of leaf set to its value. leaf is taken over.
func (n *node) with(leaf *node) *node {
	if n == nil {
		return leaf
	}
	c := bytes.Compare(leaf.key, n.key)
	if c != 0 && leaf.rank > n.rank {
		leaf.left, leaf.right = n.split(leaf.key)
		return leaf
	}
	m := *n
	switch {
	case c < 0:
		m.left = n.left.with(leaf)
	case c > 0:
		m.right = n.right.with(leaf)
	default:
		m.value = leaf.value
	}
	return &m
}

// split is the keys below and above a key that is not in n.
func (n *node) split(key []byte) (below, above *node) {
	if n == nil {
		return nil, nil
	}
	m := *n
	if bytes.Compare(n.key, key) < 0 {
		m.right, above = n.right.split(key)
		return &m, above
	}
	below, m.left = n.left.split(key)
	return below, &m
}

// without is n less a key.
func (n *node) without(key []byte) *node {
	if n == nil {
		return nil
	}
	c := bytes.Compare(key, n.key)
	if c == 0 {
		return join(n.left, n.right)
	}
	m := *n
	if c < 0 {
		if m.left = n.left.without(key); m.left == n.left {
			return n
		}
	} else if m.right = n.right.without(key); m.right == n.right {
		return n
	}
	return &m
}

// join is the union of two maps, all keys of the first below the second's.
func join(a, b *node) *node {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.rank > b.rank:
		m := *a
		m.right = join(a.right, b)
		return &m
	default:
		m := *b
		m.left = join(a, b.left)
		return &m
	}
}

// scan shows [from, to) in order until fn says no more.
func (n *node) scan(from, to []byte, fn func(key, value []byte) (bool, error)) (more bool, err error) {
	if n == nil {
		return true, nil
	}
	aboveFrom, belowTo := bytes.Compare(n.key, from) >= 0, bytes.Compare(n.key, to) < 0
	if aboveFrom {
		if more, err = n.left.scan(from, to, fn); !more || err != nil {
			return more, err
		}
	}
	if aboveFrom && belowTo {
		if more, err = fn(n.key, n.value); !more || err != nil {
			return more, err
		}
	}
	if !belowTo {
		return true, nil
	}
	return n.right.scan(from, to, fn)
}
