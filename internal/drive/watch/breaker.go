package watch

import (
	"sync"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// State is how a drive is thought to be.
type State int

// The states.
const (
	Online  State = iota
	Suspect       // it keeps failing: calls fail at once, but for one now and then
	Offline       // it has been suspect for long
)

// String is the state's name.
func (s State) String() string { return [...]string{"online", "suspect", "offline"}[s] }

// Status is a drive's state and why.
type Status struct {
	State    State
	Since    time.Time // of the state
	Failures int       // in a row
	Last     error     // the last failure; nil: none yet
	RetryAt  time.Time // when a call may try the drive next; of a drive online: zero
	Stuck    int       // calls that have not come back
}

// Change is a change of state.
type Change struct {
	From, To State
	At       time.Time
	Why      error // the failure; nil where the drive is online again
}

// breaker decides which calls are made: a circuit breaker (Nygard, "Release
// It!", 2007).
type breaker struct {
	opts *Options

	mu sync.Mutex
	// All below is guarded by mu.
	status   Status
	coolDown time.Duration // the present one
	suspect  time.Time     // since when it is not online
	probing  bool          // a call tries the drive
	untold   []Change

	telling sync.Mutex // held by the one who tells; before mu
}

func (b *breaker) now() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status
}

// admit says whether a call may be made, and whether it tries a drive that is
// not online. Each admitted call is reported.
func (b *breaker) admit(now time.Time) (probe bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.status.State == Online:
		return false, nil
	case b.probing || now.Before(b.status.RetryAt):
		return false, fsapi.Errorf(fsapi.NoDevice, "the drive is %s since %s (%v); nothing was tried",
			b.status.State, b.status.Since.UTC().Format(time.RFC3339), b.status.Last)
	}
	b.probing = true
	return true, nil
}

// report takes down how a call went and tells a change of state.
func (b *breaker) report(now time.Time, probe bool, v verdict, err error) {
	b.mu.Lock()
	b.judge(now, probe, v, err)
	news := len(b.untold) > 0
	b.mu.Unlock()
	if news {
		b.tell()
	}
}

// judge requires mu.
func (b *breaker) judge(now time.Time, probe bool, v verdict, err error) {
	if probe {
		b.probing = false
	}
	s := &b.status
	switch {
	case v == nothing:
	case v == good && (probe || s.State == Online):
		s.Failures = 0
		b.set(Online, now, nil)
	case v == bad && s.State == Online:
		s.Last = err
		if s.Failures++; s.Failures >= b.opts.Failures {
			b.coolDown, b.suspect = b.opts.CoolDown, now
			b.set(Suspect, now, err)
			s.RetryAt = now.Add(b.coolDown)
		}
	case v == bad && probe:
		s.Last = err
		s.Failures++
		b.coolDown = min(2*b.coolDown, b.opts.MaxCoolDown)
		if now.Sub(b.suspect) >= b.opts.OfflineAfter {
			b.set(Offline, now, err)
		}
		s.RetryAt = now.Add(b.coolDown)
	}
}

// set changes the state. Requires mu.
func (b *breaker) set(to State, now time.Time, why error) {
	s := &b.status
	if s.State == to {
		return
	}
	b.untold = append(b.untold, Change{s.State, to, now, why})
	s.State, s.Since, s.RetryAt = to, now, time.Time{}
}

// tell tells what is untold, in order.
func (b *breaker) tell() {
	b.telling.Lock()
	defer b.telling.Unlock()
	b.mu.Lock()
	news := b.untold
	b.untold = nil
	b.mu.Unlock()
	if b.opts.OnChange == nil {
		return
	}
	for _, c := range news {
		b.opts.OnChange(c)
	}
}
