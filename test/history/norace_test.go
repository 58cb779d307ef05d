//go:build !race

package history

// slowdown is how many times longer operations take.
const slowdown = 1
