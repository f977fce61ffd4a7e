# python3 sign.py corelay.key ann
import base64, hashlib, hmac, json, sys, time

def part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

key_file, user = sys.argv[1:]
key = open(key_file, encoding="utf-8-sig").read().strip()  # -sig takes a byte-order mark away
claims = {"sub": user, "exp": int(time.time()) + 15 * 60, "topics": ["game:*", "room:*"]}
signed = ".".join(part(json.dumps(value).encode()) for value in ({"alg": "HS256", "typ": "JWT"}, claims))
print(signed + "." + part(hmac.digest(key.encode(), signed.encode(), hashlib.sha256)))
