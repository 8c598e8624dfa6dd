"""Legacy encodings: read right or refused, never as mojibake; and what files declare of themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecbench.errors import DocumentError
from vecbench.rag.load import CsvLoader, load
from vecbench.rag.load.encodings import as_text, encoding_of

# The first article of the Universal Declaration of Human Rights and, where that has few letters beyond ASCII, a
# sentence more; with the encodings in which files of the language are found.
TEXTS: list[tuple[list[str], str]] = [
    (
        ["cp1252"],
        "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen"
        " begabt und sollen einander im Geist der Brüderlichkeit begegnen.",
    ),
    (
        ["cp1252"],
        "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison"
        " et de conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
    ),
    (
        ["cp1252"],
        "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón"
        " y conciencia, deben comportarse fraternalmente los unos con los otros.",
    ),
    (
        ["cp1252"],
        "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de razão e de consciên"
        "cia, devem agir uns para com os outros em espírito de fraternidade.",
    ),
    (
        ["cp1252"],
        "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ragione"
        " e di coscienza e devono agire gli uni verso gli altri in spirito di fratellanza. Perché è così.",
    ),
    (
        ["cp1252"],
        "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd met verstand"
        " en geweten, en behoren zich jegens elkander in een geest van broederschap te gedragen. Eén idee,"
        " geïnspireerd.",
    ),
    (
        ["cp1252"],
        "Alla människor är födda fria och lika i värde och rättigheter. De har utrustats med förnuft och samvete"
        " och bör handla gentemot varandra i en anda av gemenskap.",
    ),
    (
        ["cp1252"],
        "Alle mennesker er født frie og lige i værdighed og rettigheder. De er udstyret med fornuft og samvittigh"
        "ed, og de bør handle mod hverandre i en broderskabets ånd.",
    ),
    (
        ["cp1252"],
        "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan. Heille on annettu järki"
        " ja omatunto, ja heidän on toimittava toisiaan kohtaan veljeyden hengessä.",
    ),
    (
        ["cp1252"],
        "The café’s owner – a naïve man – charges £5 for “tea”. Don’t ask why; it’s 20° outside.",
    ),
    (
        ["cp1252"],
        "All human beings are born free and equal in dignity and rights. The café serves them all.",
    ),
    (
        ["cp1250", "iso8859_2"],
        "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni"
        " rozumem i sumieniem i powinni postępować wobec innych w duchu braterstwa.",
    ),
    (
        ["cp1250", "iso8859_2"],
        "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv. Jsou nadáni rozumem a svědomím"
        " a mají spolu jednat v duchu bratrství.",
    ),
    (
        ["cp1250", "iso8859_2"],
        "Minden emberi lény szabadon születik és egyenlő méltósága és joga van. Az emberek, ésszel és lelkiismere"
        "ttel bírván, egymással szemben testvéri szellemben kell hogy viseltessenek.",
    ),
    (
        ["cp1250", "iso8859_2"],
        "Toate fiinţele umane se nasc libere şi egale în demnitate şi în drepturi. Ele înzestrate sunt cu"
        " raţiune şi conştiinţă şi trebuie să se comporte unele faţă de altele în spiritul fraternităţii.",
    ),
    (
        ["cp1250", "iso8859_2"],
        "Sva ljudska bića rađaju se slobodna i jednaka u dostojanstvu i pravima. Ona su obdarena razumom i"
        " sviješću i trebaju jedna prema drugima postupati u duhu bratstva. Čovjek želi.",
    ),
    (
        ["cp1254"],
        "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler ve birbirle"
        "rine karşı kardeşlik zihniyeti ile hareket etmelidirler.",
    ),
    (
        ["cp1251", "koi8_r", "cp866"],
        "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью"
        " и должны поступать в отношении друг друга в духе братства.",
    ),
    (
        ["cp1251", "koi8_u"],
        "Всі люди народжуються вільними і рівними у своїй гідності та правах. Вони наділені розумом і совістю"
        " і повинні діяти у відношенні один до одного в дусі братерства.",
    ),
    (
        ["cp1251"],
        "Всички хора се раждат свободни и равни по достойнство и права. Те са надарени с разум и съвест и"
        " следва да се отнасят помежду си в дух на братство.",
    ),
    (
        ["cp1253"],
        "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. Είναι προικισμένοι"
        " με λογική και συνείδηση, και οφείλουν να συμπεριφέρονται μεταξύ τους με πνεύμα αδελφοσύνης.",
    ),
    (
        ["cp1255"],
        "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. כולם חוננו בתבונה ובמצפון, לפיכך חובה עליהם"
        " לנהוג איש ברעהו ברוח של אחווה.",
    ),
    (
        ["cp1256"],
        "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق. وقد وهبوا عقلا وضميرا وعليهم أن يعامل بعضهم بعضا"
        " بروح الإخاء.",
    ),
    (
        ["cp874"],
        "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ต่างมีเหตุผลและมโนธรรม และควรปฏิบัติต่อก"
        "ันด้วยเจตนารมณ์แห่งภราดรภาพ",
    ),
    (
        ["cp1257"],
        "Visi žmonės gimsta laisvi ir lygūs savo orumu ir teisėmis. Jiems suteiktas protas ir sąžinė ir jie"
        " turi elgtis vienas kito atžvilgiu kaip broliai.",
    ),
    (
        ["gb18030"],
        "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。",
    ),
    (
        ["big5", "gb18030"],
        "人人生而自由,在尊嚴和權利上一律平等。他們賦有理性和良心,並應以兄弟關係的精神相對待。",
    ),
    (
        ["shift_jis", "euc_jp"],
        "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。人間は、理性"
        "と良心とを授けられており、互いに同胞の精神をもって行動しなければならない。",
    ),
    (
        ["cp949"],
        "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 인간은 천부적으로 이성과 양"
        "심을 부여받았으며 서로 형제애의 정신으로 행동하여야 한다.",
    ),
]  # fmt: skip
CASES = [(encoding, text) for encodings, text in TEXTS for encoding in encodings]
AMBIGUOUS = {"Alle mensen", "Kaikki ihmi"}  # few letters, which more than one code page reads as those of a language


def outcome(data: bytes, text: str) -> str:
    try:
        return "right" if as_text(data) == text else "mojibake"
    except DocumentError:
        return "refused"


@pytest.mark.parametrize(("encoding", "text"), CASES, ids=[f"{e}-{t[:8]}" for e, t in CASES])
def test_right_or_refused_never_mojibake(encoding: str, text: str) -> None:
    for length in (12, 25, 40, 60, 90):
        cut = text[:length]
        if not cut.isascii():
            assert outcome(cut.encode(encoding), cut) != "mojibake", cut
    paragraph = f"{text}\n" * 4
    data = paragraph.encode(encoding)
    assert outcome(data, paragraph) == ("refused" if text[:11] in AMBIGUOUS else "right")
    # The same behind more ASCII than any sample holds, and cut into as many lines as it has.
    assert outcome(b"plain line\n" * 8000 + data, "plain line\n" * 8000 + paragraph) == outcome(data, paragraph)


@pytest.mark.parametrize(
    "encoding", ["cp437", "cp850", "cp852", "mac_roman", "mac_cyrillic", "mac_latin2", "johab", "cp855"]
)
def test_encodings_that_are_rarely_met_are_no_mojibake_either(encoding: str) -> None:
    tried = 0
    for usual, text in TEXTS:
        if encoding == "johab" and usual != ["cp949"]:
            continue  # of Korean; that it can write Cyrillic has been of use to nobody
        for times in (1, 3):
            try:
                data = (text * times).encode(encoding)
            except UnicodeEncodeError:
                continue
            if not data.isascii():
                assert outcome(data, text * times) != "mojibake", text
                tried += 1
    assert tried


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=1, max_size=300).filter(lambda data: b"\0" not in data))
def test_noise_is_never_taken_for_text_with_control_characters(data: bytes) -> None:
    try:
        text = as_text(data)
    except DocumentError:
        return
    if b"\x1b$" in data:
        return  # ISO-2022-JP, whose escapes stand for no character
    try:
        assert text == data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:  # then it is a legacy encoding, whose text has none, or UTF-16 by its mark
        assert data[:2] in {b"\xff\xfe", b"\xfe\xff"} or not any("\x7f" <= c <= "\x9f" for c in text)


def test_offsets_count_as_python_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("eins\r\nzwei – größer\rdrei".encode("utf-8-sig"))
    (document,) = load(path)
    assert document.text == path.read_text("utf-8-sig")


@pytest.mark.parametrize(
    "declared", ["utf-16", "undefined", "idna", "unicode_escape", "utf-7", "rot13", "hex", "no-such"]
)
def test_a_page_that_declares_nonsense_is_read_as_what_it_is(tmp_path: Path, declared: str) -> None:
    (tmp_path / "a.html").write_text(f'<meta charset="{declared}"><p>C:\\ud800 größer +AGE-', "utf-8")
    (document,) = load(tmp_path)
    assert document.text == "C:\\ud800 größer +AGE-"


@pytest.mark.parametrize(
    ("declared", "encoding", "text"),
    [
        ("iso-8859-1", "cp1252", "5 € – déjà"),  # browsers read it as Windows does
        ("gb2312", "gb18030", "通知期限为三个月，龘"),  # beyond GB 2312 itself
        ("Shift_JIS", "cp932", "通知期間①"),
        ("windows-1251", "cp1251", "да"),
        ("euc-kr", "cp949", "통지 똠"),
        ("big5", "big5", "通知期限"),
        ("iso-2022-jp", "iso2022_jp", "通知期間"),
        ("koi8-r", "koi8_r", "да"),
    ],
)
def test_what_a_page_declares_is_understood_as_browsers_do(
    tmp_path: Path, declared: str, encoding: str, text: str
) -> None:
    head = f"<meta http-equiv=content-type content='text/html; charset={declared}'><p>"
    (tmp_path / "a.html").write_bytes((head + text).encode(encoding))
    (document,) = load(tmp_path)
    assert document.text == text


def test_japanese_in_seven_bits_is_not_taken_for_ascii() -> None:
    text = "通知期間は三か月です。\nplain\n"
    assert as_text(text.encode("iso2022_jp")) == text
    assert as_text(b"\x1b[31mred\x1b[0m of a terminal") == "\x1b[31mred\x1b[0m of a terminal"


def test_a_large_file_whose_sample_ends_within_a_character() -> None:
    text = "通知期限为三个月重大变更必须以书面形式确认" * 5000  # one line of 210,000 bytes
    for shift in range(3):
        shifted = "a" * shift + text
        assert as_text(shifted.encode("gb18030")) == shifted


def test_a_beginning_that_ends_within_a_character_is_still_utf_8() -> None:
    data = "größer".encode()[:3]
    assert encoding_of(data, whole=False) == "utf-8"
    with pytest.raises(DocumentError):
        encoding_of(data)


def test_a_table_in_a_legacy_encoding(tmp_path: Path) -> None:
    rows = "".join(f"{n},Größe der Prüfung müssen schöne Bücher\n" for n in range(3000))
    (tmp_path / "a.csv").write_bytes(f"n,text\n{rows}".encode("cp1252"))
    documents = list(load(tmp_path, loaders=[CsvLoader("text")]))
    assert len(documents) == 3000
    assert {d.text for d in documents} == {"Größe der Prüfung müssen schöne Bücher"}
