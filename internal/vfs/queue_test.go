package vfs

import (
	"testing"
	"time"
)

// TestQueueRetry: a node whose write-back failed comes back when its pause is over,
// and before that only where a writer waits for the room that it takes.
func TestQueueRetry(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	b := NewBudget(1 << 20)
	q := newQueue(time.Second, func() time.Time { return now }, b)
	n := &node{ino: 1, fail: &failure{retry: now.Add(30 * time.Second)}}
	q.pushLocked(n, now)
	due := func() int {
		q.tick()
		q.mu.Lock()
		defer q.mu.Unlock()
		return len(q.dueLocked())
	}
	for range 29 {
		if now = now.Add(time.Second); due() != 0 {
			t.Fatalf("tried again at %v, %v early", now, n.fail.retry.Sub(now))
		}
	}
	if now = now.Add(2 * time.Second); due() != 1 {
		t.Error("not tried again")
	}
	q.pushLocked(&node{ino: 2, fail: &failure{retry: now.Add(30 * time.Second)}}, now)
	b.charge(1 << 20)
	b.waiting.Add(1)
	if due() != 1 {
		t.Error("not tried though a writer waits")
	}
}
