package meta

import (
	"sync"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

const policyForm = 1

// The fields of a policy record, as bits of what follows, in this order.
const (
	polCopies = 1 << iota
	polCompression
	polChunking
	polAck
	polTrash
	polAtime
	polRetention
	polAll = 1<<iota - 1
)

func appendPolicy(b []byte, p policy.Policy) []byte {
	var bits uint64
	set := func(bit uint64, there bool) {
		if there {
			bits |= bit
		}
	}
	set(polCopies, len(p.Copies) > 0)
	set(polCompression, p.Compression != "")
	set(polChunking, p.Chunking != policy.Chunking{})
	set(polAck, p.Ack != "")
	set(polTrash, p.Trash != 0)
	set(polAtime, p.Atime != "")
	set(polRetention, p.Retention != policy.Retention{})
	b = putUint(append(b, policyForm), bits)
	if bits&polCopies != 0 {
		b = putSpecs(b, p.Copies)
	}
	if bits&polCompression != 0 {
		b = putStr(b, string(p.Compression))
	}
	if bits&polChunking != 0 {
		c := p.Chunking
		b = putInt(putInt(putInt(putInt(b, int64(c.Min)), int64(c.Avg)), int64(c.Max)), int64(c.Fixed))
	}
	if bits&polAck != 0 {
		b = putStr(b, string(p.Ack))
	}
	if bits&polTrash != 0 {
		b = putInt(b, int64(p.Trash))
	}
	if bits&polAtime != 0 {
		b = putStr(b, string(p.Atime))
	}
	if bits&polRetention != 0 {
		r := p.Retention
		b = putInt(putInt(putStr(b, string(r.Mode)), int64(r.Period)), int64(r.Grace))
	}
	return b
}

// policy reads what appendPolicy wrote.
func (d *dec) policy() (p policy.Policy) {
	if d.byte() != policyForm {
		d.fail()
	}
	bits := d.uint()
	if bits&^polAll != 0 {
		d.fail()
	}
	if bits&polCopies != 0 {
		if p.Copies = d.specs(); len(p.Copies) == 0 {
			d.fail()
			return p
		}
	}
	if bits&polCompression != 0 {
		p.Compression = policy.Compression(d.str())
	}
	if bits&polChunking != 0 {
		p.Chunking = policy.Chunking{Min: int(d.int()), Avg: int(d.int()), Max: int(d.int()), Fixed: int(d.int())}
	}
	if bits&polAck != 0 {
		p.Ack = policy.Ack(d.str())
	}
	if bits&polTrash != 0 {
		p.Trash = time.Duration(d.int())
	}
	if bits&polAtime != 0 {
		p.Atime = policy.Atime(d.str())
	}
	if bits&polRetention != 0 {
		p.Retention = policy.Retention{Mode: policy.RetentionMode(d.str()), Period: time.Duration(d.int()), Grace: time.Duration(d.int())}
	}
	return p
}

func decodePolicy(key, v []byte) (policy.Policy, error) {
	d := dec{b: v}
	p := d.policy()
	if !d.done() {
		return policy.Policy{}, corrupt(key, "bad policy")
	}
	return p, nil
}

// Policy is an inode's own policy (zero where it has none).
func (tx *Tx) Policy(ino fsapi.Ino) (policy.Policy, error) {
	tx.key = inoKey(tx.key, tabPolicy, tx.vol, ino)
	v, ok, err := tx.r.Get(tx.key)
	if err != nil || !ok {
		return policy.Policy{}, err
	}
	return decodePolicy(tx.key, v)
}

// SetPolicy sets an inode's own policy (zero removes it).
func (tx *Tx) SetPolicy(in *Inode, p policy.Policy) error {
	if err := tx.writable(); err != nil {
		return err
	}
	if err := tx.Mutable(in); err != nil {
		return err
	}
	if err := tx.needGate(); err != nil {
		return err
	}
	key := inoKey(nil, tabPolicy, tx.vol, in.Ino)
	_, had, err := tx.r.Get(key)
	if err != nil {
		return err
	}
	has := !p.IsZero()
	switch {
	case has:
		tx.w.Put(key, appendPolicy(nil, p))
		in.Flags |= HasPolicy
	case had:
		tx.w.Delete(key)
		in.Flags &^= HasPolicy
	default:
		return nil
	}
	if has != had {
		tx.countPolicy(has)
	}
	tx.moves = true
	tx.changed(in)
	tx.store(in)
	return nil
}

func (tx *Tx) countPolicy(more bool) {
	if more {
		tx.volume.policies++
	} else {
		tx.volume.policies--
	}
	tx.putVolume()
}

// policies caches what directories inherit. An entry is right for as long as
// Store.moved is what it was when the transaction that found it began.
type policies struct {
	mu sync.RWMutex
	m  map[policyKey]policy.Policy // guarded by mu; cleared when it grows over policiesMax
}

type policyKey struct {
	vol   fsapi.VolumeID
	dir   fsapi.Ino
	moved int64
}

type foundPolicy struct {
	key policyKey
	p   policy.Policy
}

const policiesMax = 1 << 15

func (c *policies) get(k policyKey) (policy.Policy, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	p, ok := c.m[k]
	return p, ok
}

func (tx *Tx) publishPolicies() {
	if len(tx.foundPolicies) == 0 || tx.s.moved.Load() != tx.movedAt {
		return
	}
	c := &tx.s.policies
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m)+len(tx.foundPolicies) > policiesMax {
		c.m = make(map[policyKey]policy.Policy)
	}
	for _, f := range tx.foundPolicies {
		c.m[f.key] = f.p
	}
}

// EffectivePolicy is an inode's policy with everything it inherits through its
// primary name; for an orphan or a trashed inode what it had itself, and the
// volume's. The slices in it must not be changed.
func (tx *Tx) EffectivePolicy(in *Inode) (policy.Policy, error) {
	if err := tx.readVolume(); err != nil {
		return policy.Policy{}, err
	}
	if tx.volume.policies == 0 {
		return tx.volume.Policy, nil
	}
	var own policy.Policy
	if in.Flags&HasPolicy != 0 {
		var err error
		if own, err = tx.Policy(in.Ino); err != nil {
			return own, err
		}
	}
	dir := in.Parent
	if in.Nlink == 0 {
		dir = 0
	}
	above, err := tx.inherited(dir)
	return own.Or(above), err
}

// inherited is the policy of what lies in a directory: its own and those
// above, and the volume's (dir 0).
func (tx *Tx) inherited(dir fsapi.Ino) (policy.Policy, error) {
	if dir == 0 {
		return tx.volume.Policy, nil
	}
	key := policyKey{tx.vol, dir, tx.movedAt}
	if !tx.moves {
		if p, ok := tx.s.policies.get(key); ok {
			return p.Or(tx.volume.Policy), nil
		}
	}
	var p policy.Policy
	for depth, d := 0, dir; d != 0; depth++ {
		if depth == maxDepth {
			return p, errDepth(dir)
		}
		own, err := tx.Policy(d)
		if err != nil {
			return p, err
		}
		p = p.Or(own)
		if d, err = tx.parent(d); err != nil {
			return p, err
		}
	}
	if !tx.moves {
		tx.foundPolicies = append(tx.foundPolicies, foundPolicy{key, p})
	}
	return p.Or(tx.volume.Policy), nil
}
