package main

import "testing"

// TestOnAverage: a loss that is rare is not none.
func TestOnAverage(t *testing.T) {
	for bytes, want := range map[float64]string{3.2e-5: "3.2e-05 B", 0: "0 B", 1000: "1e+03 B", 71.8 * 1024: "71.8 KiB"} {
		if got := onAverage(bytes); got != want {
			t.Errorf("%v: %q, want %q", bytes, got, want)
		}
	}
}
