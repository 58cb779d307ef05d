package config

import (
	"reflect"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
)

// unknown refuses a key of a table and names the nearest one there is: in the
// same table first, then anywhere.
func unknown(prefix, key string, table reflect.Type) error {
	full := prefix + key
	if near := nearest(key, names("", table)); near != "" {
		return fsapi.Errorf(fsapi.Invalid, "unknown key %s: did you mean %s?", full, prefix+near)
	}
	var all []string
	for _, section := range sections() {
		all = append(all, section.key)
		all = append(all, names(section.key+".", section.typ)...)
	}
	for _, k := range all { // the right key in the wrong table
		if strings.HasSuffix(k, "."+key) {
			return fsapi.Errorf(fsapi.Invalid, "unknown key %s: did you mean %s?", full, k)
		}
	}
	if near := nearest(full, all); near != "" {
		return fsapi.Errorf(fsapi.Invalid, "unknown key %s: did you mean %s?", full, near)
	}
	return fsapi.Errorf(fsapi.Invalid, "unknown key %s: there are %s", full, strings.Join(names(prefix, table), ", "))
}

// names are the keys of a table.
func names(prefix string, table reflect.Type) []string {
	var list []string
	for i := range table.NumField() {
		list = append(list, prefix+table.Field(i).Tag.Get("toml"))
	}
	return list
}

// nearest is the candidate with the least edit distance to key, or "" where
// none is near.
func nearest(key string, candidates []string) string {
	best, at := "", 1+max(min(2, len(key)/2), len(key)/3) // nearer than this
	for _, c := range candidates {
		if d := distance(key, c); d < at {
			best, at = c, d
		}
	}
	return best
}

// distance is the number of bytes to insert, delete or exchange (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
