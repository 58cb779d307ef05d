package meta

import "context"

// clean fails the test where Check finds anything.
func (f *fixture) clean() {
	f.t.Helper()
	bad := 0
	err := f.s.Check(context.Background(), f.vol, nil, func(p Problem) {
		bad++
		f.t.Errorf("%s: %s", p.Kind, p.Text)
	})
	if err != nil {
		f.t.Fatal(err)
	}
	if bad > 0 {
		f.t.FailNow()
	}
}
