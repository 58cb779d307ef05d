package chaos

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/strakefs/strake/internal/drive/fault"
	"github.com/strakefs/strake/internal/osfs"
)

// calls is the account of every call that reaches a file system, a drive or a
// bucket: who is asked for what, when by the bubble's clock, and what harm comes of
// it. Two lives went the same way if their sums are the same.
type calls struct {
	mu   sync.Mutex
	sum  xxhash.Digest // of all lines; guarded by mu
	n    int           // calls; guarded by mu
	line []byte        // the last one, reused; guarded by mu
	// text is all lines while there is room: what it has no room for is left out.
	// It never grows, so that who keeps it and who does not live the same life.
	// Guarded by mu.
	text []byte
}

// newCalls is an account whose lines are put into text, as far as its capacity goes.
func newCalls(text []byte) *calls {
	c := &calls{text: text}
	c.sum.Reset()
	return c
}

// so is where the account stands.
func (c *calls) so() (n int, sum uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n, c.sum.Sum64()
}

// lines is the account itself.
func (c *calls) lines() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text
}

// note takes a call into the account.
func (c *calls) note(of, op, name string, off int64, n int, err error, more int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	b := strconv.AppendInt(c.line[:0], time.Now().UnixNano(), 10)
	for _, s := range [...]string{of, op, name} {
		b = append(append(b, ' '), s...)
	}
	for _, v := range [...]int64{off, int64(n), int64(more)} {
		b = strconv.AppendInt(append(b, ' '), v, 10)
	}
	if err != nil {
		b = append(append(b, ' '), err.Error()...)
	}
	c.put(append(b, '\n'))
}

// step takes the end of a step into the account.
func (c *calls) step(n int, name string, tickets int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(fmt.Appendf(c.line[:0], "end of step %d (%s) at ticket %d\n", n, name, tickets))
}

// put adds a line. REQUIRES c.mu.
func (c *calls) put(line []byte) {
	c.line = line
	_, _ = c.sum.Write(line) // never fails
	if len(c.text)+len(line) <= cap(c.text) {
		c.text = append(c.text, line...)
	}
}

// file notes what a rule of a file system is asked; a nil rule lets all pass.
func (c *calls) file(rule osfs.Rule) osfs.Rule {
	return func(call osfs.Call) (o osfs.Outcome) {
		if rule != nil {
			o = rule(call)
		}
		c.note("files", string(call.Op), call.Name, call.Off, call.Len, o.Err, o.Short)
		return o
	}
}

// drive notes what the rule of a place's drive is asked.
func (c *calls) drive(of string, rule fault.Rule) fault.Rule {
	return func(call fault.Call) fault.Outcome {
		o := rule(call)
		c.note(of, string(call.Op), call.Name, call.Off, call.Len, o.Err, o.FlipBit)
		return o
	}
}
