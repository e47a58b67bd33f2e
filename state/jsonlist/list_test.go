package jsonlist

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// entry is what the lists of these tests hold.
type entry struct {
	Name  string         `json:"n"`
	Lines Of[string]     `json:"l"`
	Rows  Rows[[3]int64] `json:"r"`
}

type plainEntry struct {
	Name  string     `json:"n"`
	Lines []string   `json:"l"`
	Rows  [][3]int64 `json:"r"`
}

func (e entry) plain() plainEntry { return plainEntry{e.Name, e.Lines, e.Rows} }

// FuzzOf: what is read as a list of ours is what a slice would be, and is written as that.
func FuzzOf(f *testing.F) {
	for _, s := range []string{
		`null`, `[]`, ` [ ] `, `[{"n":"a,b]\"[","l":["x","y"],"r":[[1,2,3],[4,5,6]]}]`, `[{"n":"no rows and no lines at all, but long"},{"n":"a","l":[],"r":[]}]`,
		`[{"n":"spaces", "r": [ [1, 2, 3] ,[4 ,5 ,6 ] ]}, {"r":null,"l":null,"n":"aaaaaaaaaaaaaa"}]`, `{"n":1}`, `[1,2]`, `"[]"`, `7`, `[{"r":[[1,2,9223372036854775807]],"n":""}]`,
		`[{},{},{}]`, `[{"r":[[],[]]}]`, `[{"r":[[-1,2,3]]}]`, `[{"r":[[1,2]]}]`, `[{"r":[[1,2,3.5]]}]`, `[{"r":[1,[2,3,4]]}]`, `[{"r":{"a":1}}]`, `[{"r":[[1,2,3,4]]}]`, `[{"r":[[[1],2,3]]}]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var got Of[entry]
		if json.Unmarshal(b, &got) != nil {
			return
		}
		var want []plainEntry
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatalf("%s is read as %v, and no list: %v", b, got, err)
		}
		if len(got) != len(want) || (got == nil) != (want == nil) {
			t.Fatalf("%s: %d entries, want %d", b, len(got), len(want))
		}
		for i := range got {
			if !reflect.DeepEqual(got[i].plain(), want[i]) {
				t.Fatalf("%s: entry %d is %#v, want %#v", b, i, got[i], want[i])
			}
		}
		mine, err1 := json.Marshal(got)
		its, err2 := json.Marshal(want)
		if err1 != nil || err2 != nil || string(mine) != string(its) {
			t.Fatalf("written as %s, want %s: %v, %v", mine, its, err1, err2)
		}
	})
}

// TestWhatIsTaken: honest lists are read, also of texts that look like more entries, and others are refused.
func TestWhatIsTaken(t *testing.T) {
	for s, honest := range map[string]bool{
		`[{"n":"` + strings.Repeat(`{},[],\",`, 1000) + `"}]`:                  true,
		`[{"n":"` + strings.Repeat("a", 30) + `","r":[[0,0,1],[7,8,9]]}]`:      true,
		`[{"n":"` + strings.Repeat("a", 30) + `","r":[[0,0,1,1]]}]`:            false,
		`[{"n":"` + strings.Repeat("a", 30) + `","r":[[0,0]]}]`:                false,
		`[{"n":"` + strings.Repeat("a", 30) + `","r":[[0,0,1e3]]}]`:            false,
		`[{"n":"` + strings.Repeat("a", 30) + `","r":[[0,0,-1]]}]`:             false,
		`[{"n":"` + strings.Repeat("a", 30) + `","r":[[0,0,"1"]]}]`:            false,
		`[{"n":"` + strings.Repeat("a", 30) + `","r":[[0,0,[1]]]}]`:            false,
		`[{"n":"` + strings.Repeat("a", 30) + `","r":[0,[0,0,1]]}]`:            false,
		`[{"n":"` + strings.Repeat("a", 30) + `","r":{"a":[0,0,1]}}]`:          false,
		`[{"n":"` + strings.Repeat("a", 30) + `","r":[[1,2,` + digits + `]]}]`: false,
		`[` + strings.Repeat(`{},`, 999) + `{}]`:                               false,
		`[{"n":"a","l":[` + strings.Repeat(`"",`, 99) + `""]}]`:                true,
		`[{"n":"a","r":[` + strings.Repeat(`[],`, 99) + `[]]}]`:                false,
	} {
		var l Of[entry]
		if err := json.Unmarshal([]byte(s), &l); (err == nil) != honest {
			t.Errorf("%.80s…: %v", s, err)
		}
	}
}

// digits are a number that is one too large.
const digits = "9223372036854775808"

// TestCount counts what stands in a list once, or twice.
func TestCount(t *testing.T) {
	var of struct {
		A Count `json:"a"`
		B Count `json:"b"`
	}
	if err := json.Unmarshal([]byte(`{"a":[1,[2,3],{"a":[4,5]},"[,"],"b":[ ],"a":[6]}`), &of); err != nil || of.A != 5 || of.B != 0 {
		t.Errorf("%+v, %v", of, err)
	}
}
