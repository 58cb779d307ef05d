// Package kvtest is the conformance suite of kv.Engine: what every engine must
// do, whatever its log is.
//
// It owns: the tests behind Run. It must not know any engine.
package kvtest

import (
	"context"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// Subject is the engine under test.
type Subject struct {
	// Open makes an empty engine. The suite closes it.
	Open func(t *testing.T) kv.Engine
	// Durable opens an empty place that survives Close, or is nil where the
	// engine does not keep anything.
	Durable func(t *testing.T) Place
	// Faulty makes an empty engine, which the suite closes, and what has its
	// log fail: with an error of the kind, from the call on until one with
	// fsapi.Other. Nil where the log cannot fail.
	Faulty func(t *testing.T) (e kv.Engine, fail func(kind fsapi.Kind))
}

// Place is where a durable engine lives.
type Place interface {
	// Open opens the engine; the one before was closed.
	Open(t *testing.T) kv.Engine
}

// Run runs the suite.
func Run(t *testing.T, s Subject) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, e kv.Engine)
	}{
		{"ReadYourWrites", testReadYourWrites},
		{"EmptyUpdate", testEmptyUpdate},
		{"AbortLeavesNothing", testAbort},
		{"PanicReleases", testPanic},
		{"ReservedKeys", testReservedKeys},
		{"Misuse", testMisuse},
		{"ContextEnds", testContext},
		{"CountersVanishAtZero", testCounterZero},
		{"ViewIsStable", testViewStable},
		{"SnapshotIsStable", testSnapshotStable},
		{"BankTransfer", testBank},
		{"WriteSkewRefused", testWriteSkew},
		{"PhantomRefused", testPhantom},
		{"ScanStopsTracking", testScanStops},
		{"PeekDoesNotConflict", testPeek},
		{"BlindAddsDoNotConflict", testBlindAdds},
		{"CounterReadConflicts", testCounterConflict},
		{"HotKeyProgress", testHotKey},
		{"StrictlyOrdered", testStrictOrder},
		{"SeqAndStampGrow", testSeqAndStamp},
		{"TailGapless", testTailGapless},
		{"TailStates", testTailStates},
		{"SyncMakesDurable", testSync}, {"SyncBesideWriters", testSyncBeside},
		{"ClosedRefuses", testClosed},
		{"CloseWhileBusy", testCloseBusy},
		{"LargeValues", testLargeValues},
		{"Model", testModel},
		{"Transactions", testTransactionModel},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := s.Open(t)
			defer func() { check(t, e.Close()) }()
			c.test(t, e)
		})
	}
	if s.Durable != nil {
		t.Run("ReopenKeepsAll", func(t *testing.T) { testReopen(t, s.Durable(t)) })
		t.Run("ReopenModel", func(t *testing.T) { testReopenModel(t, s.Durable) })
	}
	if s.Faulty != nil {
		runFaults(t, s)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// update runs one transaction that must commit.
func update(t testing.TB, e kv.Engine, fn func(tx kv.Tx)) kv.Seq {
	t.Helper()
	seq, err := e.Update(context.Background(), kv.UpdateOptions{}, func(tx kv.Tx) error { fn(tx); return nil })
	check(t, err)
	return seq
}

func put(t testing.TB, e kv.Engine, key, value string) kv.Seq {
	t.Helper()
	return update(t, e, func(tx kv.Tx) { tx.Put([]byte(key), []byte(value)) })
}

// get is the value of a key in r, or "-" where there is none.
func get(t testing.TB, r kv.Reader, key string) string {
	t.Helper()
	v, ok, err := r.Get([]byte(key))
	check(t, err)
	if !ok {
		return "-"
	}
	return string(v)
}

func counter(t testing.TB, r kv.Reader, key string) int64 {
	t.Helper()
	n, err := r.Counter([]byte(key))
	check(t, err)
	return n
}

func read(t testing.TB, e kv.Engine, fn func(r kv.Reader)) {
	t.Helper()
	check(t, e.View(context.Background(), func(r kv.Reader) error { fn(r); return nil }))
}

type pair struct{ K, V string }

// scan collects a range.
func scan(t testing.TB, r kv.Reader, from, to string) []pair {
	t.Helper()
	var hi []byte
	if to != "" {
		hi = []byte(to)
	}
	var got []pair
	check(t, r.Scan([]byte(from), hi, func(k, v []byte) (bool, error) {
		got = append(got, pair{string(k), string(v)})
		return true, nil
	}))
	return got
}

func wantKind(t testing.TB, err error, kind fsapi.Kind) {
	t.Helper()
	if err == nil || fsapi.KindOf(err) != kind {
		t.Fatalf("got error %v, want one of kind %q", err, kind)
	}
}
