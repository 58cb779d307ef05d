package chunker

// The gear hash of a position depends on the 64 bytes before it only, because
// each step shifts one bit out. So positions far apart can be tested at the
// same time: four lanes of laneLen bytes keep the processor's adders busy
// where one chain of shift and add would wait for itself. The cuts are those of
// the plain loop (see scan), which finishes what the lanes found.
const (
	window  = 64
	laneLen = 2048
	block   = 4 * laneLen
)

func (k *Cutter) cutCDC(data []byte) int {
	n := min(len(data), k.max)
	if n <= k.min {
		return n
	}
	normal := min(k.avg, n)
	i, fp, found := k.search(data, k.min, normal, 0, k.maskS)
	if !found && normal < n {
		i, _, _ = k.search(data, normal, n, fp, k.maskL)
	}
	return i
}

// search looks in [i, end) for the first position whose hash has all bits of
// mask clear. fp is the hash so far. Where there is none it returns end.
func (k *Cutter) search(data []byte, i, end int, fp, mask uint64) (int, uint64, bool) {
	found := false
	if i-k.min < window { // until the hash has a whole window behind it
		i, fp, found = k.scan(data, i, min(i+window, end), fp, mask)
	}
	for !found && end-i >= block {
		next, hit := k.lanes(data[i-window:i+block:i+block], fp, mask)
		if hit {
			i, fp, found = k.scan(data, i, i+block, fp, mask)
			return i, fp, found
		}
		i, fp = i+block, next
	}
	if !found {
		i, fp, found = k.scan(data, i, end, fp, mask)
	}
	return i, fp, found
}

// scan is FastCDC's loop.
func (k *Cutter) scan(data []byte, i, end int, fp, mask uint64) (int, uint64, bool) {
	g := k.gear
	for ; i < end; i++ {
		fp = fp<<1 + g[data[i]]
		if fp&mask == 0 {
			return i, fp, true
		}
	}
	return i, fp, false
}

// lanes tests a block of positions. d starts window bytes before the block; fp
// is the hash there. The result is the hash at the block's end, or hit where
// some position matches.
func (k *Cutter) lanes(d []byte, fp, mask uint64) (last uint64, hit bool) {
	g := k.gear
	f0 := fp
	f1 := k.warm(d[laneLen : laneLen+window])
	f2 := k.warm(d[2*laneLen : 2*laneLen+window])
	f3 := k.warm(d[3*laneLen : 3*laneLen+window])
	d0 := d[window : window+laneLen]
	d1 := d[window+laneLen:][:laneLen]
	d2 := d[window+2*laneLen:][:laneLen]
	d3 := d[window+3*laneLen:][:laneLen]
	for j := range laneLen {
		f0 = f0<<1 + g[d0[j]]
		f1 = f1<<1 + g[d1[j]]
		f2 = f2<<1 + g[d2[j]]
		f3 = f3<<1 + g[d3[j]]
		if f0&mask == 0 || f1&mask == 0 || f2&mask == 0 || f3&mask == 0 {
			return 0, true
		}
	}
	return f3, false
}

// warm is the hash after a window of bytes.
func (k *Cutter) warm(d []byte) uint64 {
	var fp uint64
	for _, b := range d {
		fp = fp<<1 + k.gear[b]
	}
	return fp
}
