// Package crash takes the store apart and looks at what is left: it cuts the
// power at random calls of the file system below, fails and delays them, flips
// stored bits, and kills the server.
//
// It owns: histories of clients, when clones are taken, how a failure is
// repeated. It must not know how any layer keeps its promises.
//
// A history is several clients of package workload, each with files of its own,
// and upkeep beside them.
package crash
