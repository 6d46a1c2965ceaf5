"""Opens tokens with Python's cryptography: the key is the argument; each line of input is a token in base64.

The answer to each is a line: "-" if it is refused, otherwise the plaintext in base64 after a "+".
"""

import base64
import sys

from cryptography.fernet import Fernet, InvalidToken

fernet = Fernet(sys.argv[1])
for line in sys.stdin:
    try:
        answer = "+" + base64.b64encode(fernet.decrypt(base64.b64decode(line))).decode()
    except InvalidToken:
        answer = "-"
    print(answer, flush=True)
