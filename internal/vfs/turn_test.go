package vfs

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTurnIsInOrderAndLetsTimePass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lock turn
		var order []int // guarded by lock
		lock.Lock()
		if lock.TryLock() {
			t.Fatal("a turn that is held was given away")
		}
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				lock.Lock()
				defer lock.Unlock()
				time.Sleep(time.Second)
				order = append(order, i)
			})
			synctest.Wait() // it waits for its turn
		}
		time.Sleep(time.Minute) // others wait meanwhile
		lock.Unlock()
		wg.Wait()
		if !slices.Equal(order, []int{0, 1, 2, 3, 4}) {
			t.Errorf("turns were taken in the order %v", order)
		}
		if !lock.TryLock() {
			t.Error("nobody has the turn, and it is not given")
		}
	})
}

func TestTurnExcludes(t *testing.T) {
	var lock turn
	sum := 0 // guarded by lock
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				lock.Lock()
				sum++
				lock.Unlock()
			}
		})
	}
	wg.Wait()
	if sum != 8000 {
		t.Errorf("%d additions of 8000 are left", sum)
	}
}

func TestTurnUnlockedTwice(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a turn that nobody has was given back")
		}
	}()
	var lock turn
	lock.Unlock()
}
