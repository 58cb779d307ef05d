package kv

import (
	"sync"

	"github.com/strakefs/strake/internal/clock"
)

// snapshot is a view with a name: the position its own state key tells.
type snapshot struct {
	view
	Position
	once sync.Once
}

var _ Snapshot = (*snapshot)(nil)

// Snapshot implements Engine.
func (e *engine) Snapshot() (Snapshot, error) {
	if err := e.enter(); err != nil {
		return nil, err
	}
	s := &snapshot{view: view{e: e}}
	if err := s.pin(); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func (s *snapshot) pin() error {
	if err := s.open(); err != nil {
		return err
	}
	v, ok, err := s.r.Get([]byte(stateKey))
	if err != nil || !ok {
		return err
	}
	s.Position, err = DecodePosition(v)
	return err
}

// Seq implements Snapshot.
func (s *snapshot) Seq() Seq { return s.Position.Seq }

// Stamp implements Snapshot.
func (s *snapshot) Stamp() clock.Stamp { return s.Position.Stamp }

// Close implements Snapshot.
func (s *snapshot) Close() (err error) {
	s.once.Do(func() {
		err = s.close()
		s.e.leave()
	})
	return err
}
