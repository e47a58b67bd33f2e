package azure_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestRangeThatIsIgnored never takes the beginning of an object for what was asked for: a proxy that leaves ranges out would
// make every object look damaged.
func TestRangeThatIsIgnored(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "0123456789")
	}))
	defer proxy.Close()
	t.Setenv("AZURE_STORAGE_KEY", "Y2FuYXJ5")
	st := open(t, "azblob://container?account=me&endpoint="+proxy.URL)
	for _, n := range []int64{2, -1} {
		r, err := st.Get(t.Context(), "a", 4, n)
		if err == nil {
			b, _ := io.ReadAll(r)
			r.Close()
			t.Errorf("%d bytes from 4 on are %q", n, b)
		} else if !strings.Contains(err.Error(), "Content-Range") {
			t.Error(err)
		}
	}
}
