// Package archtest holds tests over the source tree itself: imports point one
// way, dependencies are listed, packages and exported names are documented,
// files stay readable, there is no hidden state, and nothing of the machine it
// was written on is in it.
//
// It owns: the tables of what may import what. It must not be imported.
package archtest
