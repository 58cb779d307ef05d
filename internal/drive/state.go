package drive

import "github.com/strakefs/strake/internal/fsapi"

// State says what may be done with a drive. The numbers are stored: append
// only.
type State uint8

// The states. Online takes new segments; the others do not. Suspect and
// Offline are what was observed of it; the rest is an administrator's will.
const (
	Online   State = 0
	Suspect  State = 1 // answers late or not always: read last
	Offline  State = 2 // not there: nothing is asked of it
	Draining State = 3 // readable; everything on it is to go elsewhere
	Retired  State = 4 // given up: what it held is made anew from other copies
	ReadOnly State = 5 // readable; what is on it stays
)

var stateText = [...]string{"online", "suspect", "offline", "draining", "retired", "readonly"}

// String is the state's name, as on the command line.
func (s State) String() string {
	if int(s) < len(stateText) {
		return stateText[s]
	}
	return "unknown"
}

// ParseState reads what String wrote: fsapi.Invalid.
func ParseState(text string) (State, error) {
	for i, name := range stateText {
		if text == name {
			return State(i), nil
		}
	}
	return 0, fsapi.Errorf(fsapi.Invalid, "%q is not a state of a drive: want online, suspect, offline, draining, retired or readonly", text)
}

// Readable reports whether a drive in this state is worth asking.
func (s State) Readable() bool { return s != Offline && s != Retired }

// Writable reports whether a drive in this state takes new segments.
func (s State) Writable() bool { return s == Online }

// Leaving reports whether what is on the drive needs another place.
func (s State) Leaving() bool { return s == Draining || s == Retired }
