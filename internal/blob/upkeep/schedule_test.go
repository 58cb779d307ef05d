package upkeep

import "testing"

func FuzzTimetable(f *testing.F) {
	f.Add([]byte(`{"form":1,"last":{"orphans":1767322800000},"away":{"00000000000000ff":1}}`))
	f.Add([]byte(`{"form":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if table, _ := parseTimetable(b); table.Form != timetableForm {
			t.Errorf("%q: %+v", b, table)
		}
	})
}
