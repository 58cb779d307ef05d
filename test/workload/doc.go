// Package workload is clients of a volume that know what they did, and can tell
// what may be left of it after a crash.
//
// It owns: operations chosen by chance, the model of what they did, the verdict
// on what is left. It must not know what goes wrong below, nor how any layer
// keeps its promises.
//
// Every operation has two tickets, drawn before and after the call, by which it
// is known what was done, and what was under way, when a clone of the disk was
// taken: see Verdict. A client is used by one goroutine.
package workload
