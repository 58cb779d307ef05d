// Package crash takes the store apart and looks at what is left: it cuts the
// power at random calls of the file system below, fails and delays them, flips
// stored bits, and kills the server.
//
// It owns: histories of clients, what may be left of them, how a failure is
// repeated. It must not know how any layer keeps its promises.
//
// A history is several clients, each with files of its own, each knowing what it
// did, and upkeep beside them. Every operation has two tickets, drawn before
// and after the call, by which it is known what was done, and what was under
// way, when a clone was taken: see verdict.
package crash
