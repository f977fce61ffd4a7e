// go run sign.go corelay.key ann
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

func part(value any) string {
	text, _ := json.Marshal(value)
	return base64.RawURLEncoding.EncodeToString(text)
}

func main() {
	file, err := os.ReadFile(os.Args[1])
	if err != nil {
		panic(err)
	}
	key := strings.TrimSpace(strings.TrimPrefix(string(file), "\uFEFF")) // a byte-order mark is no white space here
	claims := map[string]any{
		"sub": os.Args[2], "exp": time.Now().Unix() + 15*60, "topics": []string{"game:*", "room:*"},
	}
	signed := part(map[string]string{"alg": "HS256", "typ": "JWT"}) + "." + part(claims)
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(signed))
	fmt.Println(signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))
}
