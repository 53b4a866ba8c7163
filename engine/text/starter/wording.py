"""The words of the starter world: people, attributes, sentences and questions in English and Chinese.

Names and values are short and common so that a vocabulary of 1,536 holds them in a token or two. Every template takes
`{n}` (the person), English ones also `{p}` (the person's); sentences and answers take `{v}` (the value). All English
values that follow `a` begin with a consonant, all pets are counted with 只, all jobs with 名.
"""

from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

WOMEN: tuple[tuple[str, str], ...] = (
    ("Mira", "米拉"), ("Lena", "莱娜"), ("Rosa", "罗莎"), ("Ada", "艾达"), ("Eva", "伊娃"), ("Lily", "莉莉"),
    ("Zoe", "佐伊"), ("Kate", "凯特"), ("Lucy", "露西"), ("Emma", "艾玛"), ("Ruby", "鲁比"), ("Wendy", "温迪"),
    ("Maya", "玛雅"), ("Betty", "贝蒂"), ("Helen", "海伦"), ("Sophie", "苏菲"), ("Annie", "安妮"), ("Susan", "苏珊"),
    ("Diane", "黛安"), ("Mary", "玛丽"), ("Peggy", "佩吉"), ("Ivy", "艾薇"), ("Gwen", "格温"), ("Irene", "艾琳"),
    ("Nancy", "南希"), ("Cathy", "凯茜"),
)  # fmt: skip
MEN: tuple[tuple[str, str], ...] = (
    ("Tom", "汤姆"), ("Leo", "利奥"), ("Jack", "杰克"), ("Noah", "诺亚"), ("Paul", "保罗"), ("Peter", "彼得"),
    ("Hugo", "雨果"), ("Ivan", "伊万"), ("Kevin", "凯文"), ("David", "大卫"), ("Tony", "托尼"), ("Henry", "亨利"),
    ("Simon", "西蒙"), ("Bill", "比尔"), ("Bob", "鲍勃"), ("Alan", "阿兰"), ("Finn", "芬恩"), ("Ted", "泰德"),
    ("Gary", "加里"), ("Jerry", "杰瑞"), ("Gordon", "戈登"), ("Otto", "奥托"), ("Milo", "米洛"), ("Colin", "科林"),
    ("Jason", "杰森"), ("Arthur", "亚瑟"),
)  # fmt: skip
PEOPLE = WOMEN + MEN
"""Everyone as (English name, Chinese name); the women stand first.

No two Chinese names end alike: a shared last character merges with what follows it before it merges with its name.
"""


@dataclass(frozen=True, slots=True)
class Attribute:
    """What can be known about a person, and how it is told, asked and answered.

    Attributes:
        name: The key.
        values: (English, Chinese) for each value.
        sentences: How stories tell it, by language; the first is also the fixed form of the answer.
        questions: Five phrasings by language.
    """

    name: str
    values: tuple[tuple[str, str], ...]
    sentences: dict[Language, tuple[str, ...]]
    questions: dict[Language, tuple[str, ...]]

    def answer(self, language: Language) -> str:
        """The answer's template in `language`."""
        return self.sentences[language][0]


JOB = Attribute(
    "job",
    (
        ("tailor", "裁缝"), ("cook", "厨师"), ("doctor", "医生"), ("teacher", "老师"), ("farmer", "农民"),
        ("pilot", "飞行员"), ("painter", "画家"), ("nurse", "护士"), ("sailor", "水手"), ("singer", "歌手"),
        ("gardener", "园丁"), ("carpenter", "木匠"),
    ),
    {
        "en": (
            "{n} is a {v}.",
            "{n} works as a {v}.",
            "{p} job is that of a {v}.",
            "{n} earns a living as a {v}.",
            "{n} grew up to be a {v}.",
            "Everyone knows that {n} is a good {v}.",
        ),
        "zh": (
            "{n}是一名{v}。",
            "{n}的职业是{v}。",
            "{n}靠当{v}谋生。",
            "{n}当{v}已经很多年了。",
            "{n}长大后成了一名{v}。",
            "大家都知道{n}是个好{v}。",
        ),
    },
    {
        "en": (
            "What is {p} job?",
            "What does {n} do for a living?",
            "What work does {n} do?",
            "Which job does {n} have?",
            "Tell me what {n} works as.",
        ),
        "zh": (
            "{n}是做什么工作的？",
            "{n}的职业是什么？",
            "{n}靠什么谋生？",
            "请问{n}从事什么职业？",
            "告诉我{n}的工作是什么。",
        ),
    },
)  # fmt: skip

CITY = Attribute(
    "city",
    (
        ("Lisbon", "里斯本"), ("Paris", "巴黎"), ("Rome", "罗马"), ("Oslo", "奥斯陆"), ("Cairo", "开罗"),
        ("Tokyo", "东京"), ("Lima", "利马"), ("Vienna", "维也纳"), ("Berlin", "柏林"), ("Madrid", "马德里"),
        ("Delhi", "德里"), ("Athens", "雅典"),
    ),
    {
        "en": (
            "{n} lives in {v}.",
            "{p} home is in {v}.",
            "{n} has a small house in {v}.",
            "{n} has lived in {v} for many years.",
            "{n} walks the streets of {v} every day.",
            "Everyone knows that {n} lives in {v}.",
        ),
        "zh": (
            "{n}住在{v}。",
            "{n}的家在{v}。",
            "{n}在{v}有一座小房子。",
            "{n}在{v}生活了很多年。",
            "{n}每天走在{v}的街上。",
            "大家都知道{n}住在{v}。",
        ),
    },
    {
        "en": (
            "Where does {n} live?",
            "Which city does {n} live in?",
            "Where is {p} home?",
            "In which city is {p} house?",
            "Tell me where {n} lives.",
        ),
        "zh": (
            "{n}住在哪里？",
            "{n}住在哪座城市？",
            "{n}的家在哪儿？",
            "请问{n}在哪座城市生活？",
            "告诉我{n}住在什么地方。",
        ),
    },
)  # fmt: skip

PET = Attribute(
    "pet",
    (
        ("cat", "猫"), ("dog", "狗"), ("parrot", "鹦鹉"), ("rabbit", "兔子"), ("turtle", "乌龟"), ("hamster", "仓鼠"),
        ("goat", "山羊"), ("duck", "鸭子"), ("hedgehog", "刺猬"), ("pigeon", "鸽子"), ("squirrel", "松鼠"),
        ("goose", "鹅"),
    ),
    {
        "en": (
            "{n} has a {v}.",
            "{n} keeps a {v} at home.",
            "{p} pet is a {v}.",
            "{n} shares the house with a {v}.",
            "{n} feeds a {v} every morning.",
            "Everyone knows that {n} has a {v}.",
        ),
        "zh": (
            "{n}养了一只{v}。",
            "{n}的宠物是一只{v}。",
            "{n}家里有一只{v}。",
            "每天早上，{n}都要喂家里的{v}。",
            "{n}和一只{v}住在一起。",
            "大家都知道{n}有一只{v}。",
        ),
    },
    {
        "en": (
            "What pet does {n} have?",
            "What is {p} pet?",
            "Which animal does {n} keep?",
            "What animal lives with {n}?",
            "Tell me what pet {n} has.",
        ),
        "zh": (
            "{n}养了什么宠物？",
            "{n}的宠物是什么？",
            "{n}家里养着什么动物？",
            "请问{n}养的是什么动物？",
            "告诉我{n}有什么宠物。",
        ),
    },
)  # fmt: skip

COLOUR = Attribute(
    "colour",
    (
        ("red", "红色"), ("blue", "蓝色"), ("green", "绿色"), ("yellow", "黄色"), ("purple", "紫色"), ("white", "白色"),
        ("black", "黑色"), ("pink", "粉色"), ("brown", "棕色"), ("grey", "灰色"), ("silver", "银色"),
        ("orange", "橙色"),
    ),
    {
        "en": (
            "{p} favourite colour is {v}.",
            "{n} likes {v} best.",
            "{n} always wears something {v}.",
            "{n} painted the door {v}.",
            "Of all colours {n} likes {v} most.",
            "Everyone knows that {p} colour is {v}.",
        ),
        "zh": (
            "{n}最喜欢的颜色是{v}。",
            "{n}偏爱{v}。",
            "{n}的衣服大多是{v}的。",
            "{n}把门漆成了{v}。",
            "在所有颜色里，{n}最喜欢{v}。",
            "大家都知道{n}喜欢{v}。",
        ),
    },
    {
        "en": (
            "What is {p} favourite colour?",
            "Which colour does {n} like best?",
            "What colour does {n} love most?",
            "Which colour is {p} favourite?",
            "Tell me {p} favourite colour.",
        ),
        "zh": (
            "{n}最喜欢什么颜色？",
            "{n}最爱的颜色是什么？",
            "哪种颜色是{n}的最爱？",
            "请问{n}偏爱哪种颜色？",
            "告诉我{n}最喜欢哪种颜色。",
        ),
    },
)  # fmt: skip

FOOD = Attribute(
    "food",
    (
        ("noodles", "面条"), ("rice", "米饭"), ("bread", "面包"), ("cheese", "奶酪"), ("dumplings", "饺子"),
        ("pancakes", "煎饼"), ("pizza", "披萨"), ("tofu", "豆腐"), ("mushrooms", "蘑菇"), ("potatoes", "土豆"),
        ("tomatoes", "番茄"), ("grapes", "葡萄"),
    ),
    {
        "en": (
            "{p} favourite food is {v}.",
            "{n} loves to eat {v}.",
            "{n} could eat {v} every day.",
            "{n} likes {v} more than any other food.",
            "At lunch {n} always asks for {v}.",
            "Everyone knows how much {n} loves {v}.",
        ),
        "zh": (
            "{n}最爱吃{v}。",
            "{n}最喜欢的食物是{v}。",
            "{n}天天吃{v}也不腻。",
            "{n}一看见{v}就高兴。",
            "午饭时，{n}总要吃{v}。",
            "大家都知道{n}爱吃{v}。",
        ),
    },
    {
        "en": (
            "What is {p} favourite food?",
            "What does {n} like to eat best?",
            "Which food does {n} love most?",
            "Which food is {p} favourite?",
            "Tell me what {n} loves to eat.",
        ),
        "zh": (
            "{n}最爱吃什么？",
            "{n}最喜欢的食物是什么？",
            "什么食物最合{n}的口味？",
            "请问{n}平时最爱吃什么？",
            "告诉我{n}最喜欢吃什么。",
        ),
    },
)  # fmt: skip

FRIEND = Attribute(
    "friend",
    PEOPLE,
    {
        "en": (
            "{p} best friend is {v}.",
            "{n} trusts {v} more than anyone.",
            "{n} writes a letter to {v} every week.",
            "{n} tells {v} everything.",
            "{n} has no better friend than {v}.",
            "Everyone knows that {p} best friend is {v}.",
        ),
        "zh": (
            "{n}最好的朋友是{v}。",
            "{n}最信任的人是{v}。",
            "{n}每周都给{v}写信。",
            "{n}有什么心事都告诉{v}。",
            "{n}把{v}当作最好的朋友。",
            "大家都知道{n}最好的朋友是{v}。",
        ),
    },
    {
        "en": (
            "Who is {p} best friend?",
            "Who is the best friend of {n}?",
            "Which friend is closest to {n}?",
            "What is the name of {p} best friend?",
            "Tell me who {p} best friend is.",
        ),
        "zh": (
            "{n}最好的朋友是谁？",
            "谁是{n}最好的朋友？",
            "{n}和谁最要好？",
            "请问{n}最好的朋友叫什么名字？",
            "告诉我{n}跟谁关系最好。",
        ),
    },
)

ATTRIBUTES = (JOB, CITY, PET, COLOUR, FOOD, FRIEND)

OPENINGS: dict[Language, tuple[str, ...]] = {
    "en": ("This is a story about {n}.", "Let us talk about {n}.", "Here comes {n}.", "People like to talk about {n}."),
    "zh": ("这是{n}的故事。", "我们来说说{n}吧。", "{n}走过来了。", "大家常常谈起{n}。"),
}
SCENES: dict[Language, tuple[str, ...]] = {
    "en": ("The sun is shining.", "It is a quiet morning.", "The rain has just stopped.", "It is getting dark."),
    "zh": ("阳光很好。", "清晨很安静。", "雨刚刚停了。", "天渐渐黑了。"),
}
THANKS: dict[Language, str] = {"en": "Thank you!", "zh": "谢谢！"}
WELCOME: dict[Language, str] = {"en": "You are welcome!", "zh": "不客气！"}
