// Package history runs random histories of several clients on a volume and on
// the model, in the same order, and compares every result; and others on
// disjoint subtrees at once.
//
// It owns: what an operation is, how results compare, how a failing history
// shrinks. It must not know how either side does anything.
//
// An operation is a kind and a few random numbers; what they choose depends on
// what is there when it runs. So any part of a history is a history, and one
// that fails is shrunk by leaving operations out.
package history
