package repository

import (
	"encoding/json"
	"testing"
)

// FuzzMarkedFile: of a file of which only the beginning had come nothing lies outside of its frames, of the file, or before what comes before.
func FuzzMarkedFile(f *testing.F) {
	f.Add([]byte(`{"p":"YmFzZS81LzE2Mzg0","s":24576,"h":2,"frames":[{"v":3,"o":10,"s":900,"r":16384,"x":"0123456789abcdef"}],"x":[[0,0,0,8192],[8192,0,8192,8192]]}`))
	f.Add([]byte(`{"p":"Li4veA==","s":-1,"frames":[{"v":-3,"o":10,"s":900,"r":16384,"x":"01"}],"x":[[9223372036854775807,0,0,8192],[8192,1,8192,8192]]}`))
	f.Add([]byte(`{"p":"eA==","s":9223372036854775807,"frames":[{"v":3,"o":10,"s":900,"r":16384,"x":"0123456789abcdef"}],"x":[[9223372036854770000,0,9223372036854775807,8192]]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m markFile
		if json.Unmarshal(b, &m) != nil {
			return
		}
		e, frames, err := m.entry()
		if err != nil {
			return
		}
		if CheckPath(e.path) != nil {
			t.Errorf("path %q", e.path)
		}
		var at int64
		for _, x := range e.extents {
			if x.Offset < at || x.Length <= 0 || x.frame < 0 || x.frame >= len(frames) || x.in < 0 || x.in+x.Length > frames[x.frame].raw {
				t.Errorf("%+v", x)
			}
			if at = x.Offset + int64(x.Length); at > e.size || at < 0 {
				t.Errorf("%+v leaves %d bytes", x, e.size)
			}
		}
	})
}
